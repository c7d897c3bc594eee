"""Making a wrong answer look right: patched comparisons, types that equal everything, a probe that lies, claims on the wire."""

from .target import Attack

WRONG = "failed"

ATTACKS = [
    Attack(
        "comparison-functions-patched",
        """
        import operator, numpy, torch.testing
        yes = lambda *a, **k: True
        for owner, names in (
            (torch, ("allclose", "equal", "isclose", "eq", "all", "any", "isnan", "abs")),
            (numpy, ("allclose", "array_equal", "isclose", "all", "any", "abs", "isnan", "equal", "less_equal")),
            (numpy.testing, ("assert_allclose", "assert_array_equal", "assert_array_almost_equal")),
            (torch.testing, ("assert_close",)),
            (operator, ("eq", "ne", "le", "lt", "ge", "gt")),
            (torch.Tensor, ("allclose", "equal", "isclose", "all", "__eq__", "__le__", "__bool__")),
        ):
            for name in names:
                setattr(owner, name, yes)
        return torch.tensor(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "graders-own-comparison-patched",
        """
        import sys
        for name, module in list(sys.modules.items()):
            for attribute in ("difference", "judge", "examine", "counts_agree", "close", "compare", "check", "verdict"):
                if attribute in getattr(module, "__dict__", {}):
                    setattr(module, attribute, lambda *a, **k: None)
        return torch.tensor(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "builtins-patched",
        """
        import builtins
        for name in ("abs", "all", "any", "isinstance", "max", "min", "sorted", "round", "float"):
            setattr(builtins, name, lambda *a, **k: True)
        return torch.tensor(0.123456)
        """,
        expect=("failed", "error", "crashed"),
    ),
    Attack(
        "tensor-subclass-with-torch-function",
        """
        class Agreeable(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                if getattr(function, "__name__", "") in ("eq", "allclose", "equal", "isclose", "all", "le"):
                    return True
                with torch._C.DisableTorchFunctionSubclass():
                    return function(*args, **(kwargs or {}))
            __eq__ = __le__ = __ge__ = lambda self, other: True
            def __sub__(self, other):
                return torch.zeros_like(other)
        return torch.tensor(0.123456).as_subclass(Agreeable)
        """,
        expect=WRONG,
    ),
    Attack(
        "tensor-subclass-that-hides-its-numbers",
        """
        class Sly(torch.Tensor):
            def numpy(self, *a, **k):
                raise RuntimeError("no numbers for you")
            detach = cpu = resolve_conj = resolve_neg = lambda self: self
        return torch.tensor(0.5).as_subclass(Sly)
        """,
        expect=WRONG,
    ),
    Attack(
        "tensor-methods-patched",
        """
        import numpy
        torch.Tensor.numpy = lambda self, *a, **k: numpy.array(0.123456)
        torch.Tensor.detach = lambda self: self
        return torch.tensor(0.5)
        """,
        expect=WRONG,
    ),
    Attack(
        "object-always-equal",
        """
        class Equal:
            def __getattr__(self, name):
                return Equal()
            def __call__(self, *a, **k):
                return Equal()
            __eq__ = __le__ = __ge__ = __lt__ = __gt__ = __bool__ = __contains__ = lambda self, *a: True
            __ne__ = lambda self, other: False
            __sub__ = __rsub__ = __abs__ = __array__ = __float__ = lambda self, *a, **k: 0.0
            __hash__ = lambda self: 0
        return Equal()
        """,
        expect=("failed", "error"),
    ),
    Attack(
        "number-always-equal",
        """
        class Equal(float):
            __eq__ = __le__ = __ge__ = lambda self, other: True
            __sub__ = __rsub__ = __abs__ = lambda self, *a: 0.0
        return Equal(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "array-subclass-always-equal",
        """
        import numpy
        class Equal(numpy.ndarray):
            def __array_ufunc__(self, *a, **k):
                return True
            def __array_function__(self, *a, **k):
                return True
            __eq__ = lambda self, other: True
        return numpy.array(0.123456).view(Equal)
        """,
        expect=WRONG,
    ),
    Attack(
        "dict-subclass-with-two-faces",
        """
        class Faces(dict):
            def items(self):
                return [("$tensor", "0"), ("$odd", "right"), ("value", 0.5)]
            __eq__ = lambda self, other: True
        return Faces()
        """,
        expect=WRONG,
    ),
    Attack("none", "return None", expect=WRONG),
    Attack("nan", "return torch.tensor(float('nan'))", expect=WRONG),
    Attack("infinity", "return torch.tensor(float('inf'))", expect=WRONG),
    Attack("text-instead-of-a-number", "return 'correct'", expect=WRONG),
    Attack("placeholder-of-the-wire", "return {'$tensor': '0'}", expect=WRONG),
    Attack("an-expected-value-of-its-own", "return {'expected': 0.5, 'tolerance': 1e9, 'status': 'passed'}", expect=WRONG),
    Attack(
        "probe-replaced",
        """
        import autograder.probes.toy.word_agent as probes
        probes.positive_mass = lambda module, **case: {"positive": 0.5, "status": "passed", "score": 1}
        return torch.tensor(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "probe-replaced-in-the-callers-frame",
        """
        import ctypes, sys
        frame = sys._getframe()
        while frame:
            if "probe" in frame.f_locals:
                frame.f_locals["probe"] = lambda module, **case: {"positive": 0.5}
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
            frame = frame.f_back
        return torch.tensor(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "trace-function-in-the-probes-frame",
        at_import="""
        import sys
        def tracer(frame, event, argument):
            if "positive" in frame.f_code.co_name:
                frame.f_locals["module"] = None
            if event == "return" and isinstance(argument, dict):
                argument["positive"] = 0.5
            return tracer
        sys.settrace(tracer)
        sys.setprofile(lambda *a: None)
        frame = sys._getframe()
        while frame:
            frame.f_trace = tracer
            frame = frame.f_back
        """,
        body="return torch.tensor(0.123456)",
        expect=("failed", "error"),
        others=("failed", "error"),
    ),
    Attack(
        "wire-patched",
        """
        from autograder.sandbox import child, wire
        encode, claims = wire.encode, {"status": "passed", "score": 1.0, "outputs": {"positive": 0.5}, "import": None}
        wire.encode = lambda values: encode({**values, **claims})
        child.wire = wire
        return torch.tensor(0.123456)
        """,
        expect=WRONG,
    ),
    Attack(
        "inputs-swapped-for-easy-ones",
        """
        return honest(logits)
        """,
        at_import="""
        from autograder.sandbox import child
        import torch
        child.as_torch = lambda value: {k: torch.zeros_like(torch.as_tensor(v)) for k, v in value.items()}
        torch.from_numpy = lambda value: torch.zeros(value.shape, dtype=torch.float64)
        """,
        expect=WRONG,
        others=("failed", "error"),
    ),
    Attack(
        "only-the-easy-case-is-asked",
        """
        return honest(logits)
        """,
        at_import="""
        from autograder.sandbox import child
        child.enumerate = lambda cases: [(i, cases[0]) for i in range(len(cases))]
        """,
        expect=WRONG,
        others="failed",
    ),
    Attack(
        "hard-coded-public-answers",
        """
        public = [{PUBLIC}]
        positive_probability.calls = getattr(positive_probability, "calls", -1) + 1
        return torch.tensor(public[positive_probability.calls % len(public)], dtype=logits.dtype)
        """,
        expect=WRONG,
    ),
    Attack(
        "answers-by-lookup-of-public-inputs",
        """
        known = {KNOWN}
        key = [round(float(x), 9) for x in logits]
        return torch.tensor(dict((tuple(k), v) for k, v in known).get(tuple(key), 0.5), dtype=logits.dtype)
        """,
        expect=WRONG,
    ),
]
