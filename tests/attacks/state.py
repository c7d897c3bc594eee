"""State left behind, of torch, NumPy and Python. Each check has a process of its own: no other check may see any of it."""

import textwrap

from .target import Attack


def left(name, what, expect="passed"):
    """State set when the function is called: the other exercises of the file are graded as if it were not."""
    what = textwrap.dedent(what).strip("\n")
    return Attack(name, f"right = honest(logits)\n{what}\nreturn right", expect=expect)


ODD = ("passed", "failed", "error")  # its own later cases may feel it: that is the learner's affair

ATTACKS = [
    left("default-dtype", "torch.set_default_dtype(torch.float16)"),
    left("default-device", "torch.set_default_device('meta')", expect=ODD),
    left("random-state", "import numpy, random\ntorch.manual_seed(1); numpy.random.seed(1); random.seed(1)"),
    left("generator-replaced", "torch.default_generator = None", expect=ODD),
    left("autograd-mode", "torch.set_grad_enabled(False)"),
    left("inference-mode", "torch.inference_mode().__enter__()"),
    left("anomaly-mode", "torch.autograd.set_detect_anomaly(True)"),
    left("deterministic-algorithms", "torch.use_deterministic_algorithms(True)"),
    left("thread-count", "torch.set_num_threads(7)"),
    left("print-options", "torch.set_printoptions(precision=0, threshold=1)\nimport numpy\nnumpy.set_printoptions(precision=0)"),
    left("numpy-errors", "import numpy\nnumpy.seterr(all='raise')", expect=ODD),
    left("warnings-as-errors", "import warnings\nwarnings.simplefilter('error')", expect=ODD),
    left("recursion-limit", "import sys\nsys.setrecursionlimit(60)", expect=ODD),
    left("switch-interval", "import sys\nsys.setswitchinterval(1000)"),
    left(
        "locale",
        """
        import locale
        for name in ('de_DE.UTF-8', 'tr_TR.UTF-8', 'C'):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                pass
        """,
    ),
    left("working-folder", "import os\nos.chdir('/')"),
    left("umask-and-environment", "import os\nos.umask(0o777)\nos.environ.clear()"),
    left("collector-off", "import gc\ngc.disable()"),
    left(
        "streams-closed",
        """
        import sys
        if sys.stdout:
            sys.stdout.close(); sys.stderr.close()
        sys.stdout = sys.stderr = None
        """,
    ),
    left("exception-hook", "import sys\nsys.excepthook = sys.unraisablehook = lambda *a: 1 / 0"),
    left(
        "dispatch-mode",
        """
        from torch.utils._python_dispatch import TorchDispatchMode
        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, f, t, a=(), k=None):
                return 0
        Mode().__enter__()
        """,
        expect=ODD + ("crashed",),
    ),
    # Patches of the file's own process, of all kinds: graded by what comes out, and nothing of it is seen by the other checks.
    *(
        left(f"patched-{name}", f"import {module}\n{module}.{attribute} = None", expect=ODD + ("crashed",))
        for name, module, attribute in (
            ("os-write", "os", "write"),
            ("os-exit", "os", "_exit"),
            ("sys-modules", "sys", "modules"),
            ("sys-meta-path", "sys", "meta_path"),
            ("builtins-len", "builtins", "len"),
            ("builtins-import", "builtins", "__import__"),
            ("json-dumps", "json", "dumps"),
            ("struct", "struct", "Struct"),
            ("from-numpy", "torch", "from_numpy"),
            ("safetensors", "safetensors.numpy", "save"),
            ("numpy-asarray", "numpy", "asarray"),
            ("traceback", "traceback", "extract_tb"),
            ("linecache", "linecache", "cache"),
            ("child-serve", "autograder.sandbox.child", "describe_exception"),
            ("wire-encode", "autograder.sandbox.wire", "encode"),
        )
    ),
    Attack(
        "patched-at-import",
        at_import="""
        import builtins, marshal, os, sys
        marshal.loads = os.write = builtins.compile = builtins.getattr = None
        sys.modules.clear()
        """,
        body="return torch.tensor(0.123456)",
        expect=("failed", "error", "crashed"),
        others=("passed", "failed", "error", "crashed"),
    ),
    Attack(
        "file-that-replaces-itself",
        at_import="""
        import sys
        class Other:
            positive_probability = staticmethod(lambda logits: torch.tensor(0.123456))
            def __getattr__(self, name):
                return self.positive_probability
        sys.modules[__name__] = Other()
        """,
        expect=("failed", "error"),
        others=("failed", "error", "missing"),
    ),
    Attack(
        "given-code-replaced",
        at_import="""
        import toy.given.words as given
        given.POSITIVE = given.WORDS = ()
        """,
        body="return torch.tensor(0.123456)",
        expect="failed",
    ),
    Attack("finder-removed", at_import="import sys\nsys.meta_path.clear()\nsys.path.clear()\nsys.path_hooks.clear()"),
]
