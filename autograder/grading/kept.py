"""What a student handed in, as it was graded, kept beside the result: reports, rubrics, similarity and replays read it from here.

DIR/<student>/result.json
DIR/<student>/files/toy/word_agent.py     exercise files and helpers, by module name (UTF-8, notebooks as Python)
DIR/<student>/answers/03-word-agent.toml  written answers, as sent
"""

from __future__ import annotations

from pathlib import Path

from autograder.course import Course

from .submissions.model import Submission

FILES, ANSWERS = "files", "answers"


def keep(folder: Path, submission: Submission) -> None:
    """Writes a submission's text into its folder of results, and takes away what an earlier hand-in left there."""
    wanted = {folder / FILES / (module.replace(".", "/") + ".py"): text for module, text in contents(submission).items()}
    wanted |= {folder / ANSWERS / f"{lesson}.toml": text for lesson, text in submission.answers.items()}
    for path, text in wanted.items():
        data = text.encode("utf-8", "replace")
        if not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    for place in (FILES, ANSWERS):
        for path in sorted((folder / place).rglob("*"), reverse=True):
            if path.is_file() and path not in wanted:
                path.unlink()


def contents(submission: Submission) -> dict[str, str]:
    """Exercise files and helpers by module name. A helper that lies beside both tracks goes by three names; it is kept once."""
    ours = submission.helpers
    helpers = {module: text for module, text in ours.items() if "." not in module or ours.get(module.split(".")[-1]) != text}
    return {**helpers, **submission.files}


def kept(folder: Path, course: Course) -> Submission:
    """The submission that `keep` wrote, to be looked at or graded once more. A folder without any is an empty submission."""
    found = Submission(folder.name)
    exercise = {lesson.module for lesson in course.lessons}
    top = folder / FILES
    for path in sorted(top.rglob("*.py")) if top.is_dir() else ():
        module = ".".join(path.relative_to(top).with_suffix("").parts)
        text = path.read_bytes().decode("utf-8", "replace")
        if module in exercise:
            found.files[module] = text
        else:
            found.helpers[module] = text
    for module, text in list(found.helpers.items()):
        if "." not in module:  # as when it was sent: beside the exercise files, it can be imported from either track too
            for track in {name.split(".")[0] for name in exercise}:
                found.helpers.setdefault(f"{track}.{module}", text)
    for path in sorted((folder / ANSWERS).glob("*.toml")):
        found.answers[path.stem] = path.read_bytes().decode("utf-8", "replace")
    return found
