"""The README's picture: the tour's two submissions, graded, as an SVG.   python -m autograder.reports.picture"""

from __future__ import annotations

from pathlib import Path

TEMPLATE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def draw(path: Path) -> None:
    """Grades the tour's submissions and writes what the terminal shows. The template names no font that would be downloaded."""
    from rich.console import Console

    from autograder import course as courses
    from autograder.commands.tour import show_grading
    from autograder.sandbox import open_sandbox

    console = Console(record=True, width=132, file=open("/dev/null", "w"), color_system="truecolor", force_terminal=True)
    course = courses.load(Path(__file__).parent)
    with open_sandbox(["toy.word_agent"]) as sandbox:
        show_grading(console, course, sandbox)
    path.write_text(console.export_svg(title="climb tour", code_format=TEMPLATE, unique_id="climb"), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(__file__).resolve().parents[2] / "lessons" / "verdict.svg")
