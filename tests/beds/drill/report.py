"""Report of a drill, as text and as one HTML page without anything from elsewhere."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.beds.drill.stages import StageResult


@dataclass(frozen=True)
class ReportTable:
    """A titled table of texts; the first row is its head."""

    title: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DrillReport:
    """A drill that ended.

    Attributes:
        title: of the page.
        verdict: one sentence.
        passed: whether all answers were as before.
        tables: in order.
    """

    title: str
    verdict: str
    passed: bool
    tables: tuple[ReportTable, ...]

    def text(self) -> str:
        """As text, columns aligned."""
        parts = [self.title, "=" * len(self.title), self.verdict]
        return "\n\n".join([*parts, *(_text_table(table) for table in self.tables)]) + "\n"

    def page(self) -> str:
        """As an HTML page."""
        head = f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style>"
        verdict = f'<p class="{"good" if self.passed else "bad"}">{html.escape(self.verdict)}</p>'
        body = "\n".join(_html_table(table) for table in self.tables)
        start = '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        return f"{start}{head}\n<h1>{html.escape(self.title)}</h1>\n{verdict}\n{body}\n</html>\n"


_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;"
    "vertical-align:top;border-bottom:1px solid #ddd}.good{color:#060}.bad{color:#a00}"
)


def _text_table(table: ReportTable) -> str:
    widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table.rows
    ]
    return "\n".join([table.title, *(f"  {line}" for line in lines)])


def _html_table(table: ReportTable) -> str:
    head, *rows = table.rows
    lines = [_html_row("th", head), *(_html_row("td", row) for row in rows)]
    return f"<h2>{html.escape(table.title)}</h2>\n<table>{''.join(lines)}</table>"


def _html_row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>\n"


def build_report(title: str, results: Sequence[StageResult]) -> DrillReport:
    """The report of a drill's stages, from their seconds and facts.

    Facts `differences` (lists of sentences), `recovery` (RPO and RTO in seconds by case), and
    `tables` (title -> rows) are shown under titles of their own, `moments` (seconds since 1970)
    not at all; others beside their stage.
    """
    differences = [d for result in results for d in result.facts.get("differences", [])]
    replayed = sum(result.facts.get("replayed", 0) for result in results)
    passed = replayed > 0 and not differences
    verdict = (
        f"{replayed} answers were the same bytes as before"
        if passed
        else f"{len(differences)} of {replayed} answers differ"
    )
    seconds = sum(result.seconds for result in results)
    tables = [
        ReportTable(f"Stages, {seconds:,.0f} s together", tuple(_stage_rows(results))),
        *_recovery(results),
        *([ReportTable("Differences", (("call and what differs",), *((d,) for d in differences)))]
          if differences else []),
        *_own_tables(results),
    ]  # fmt: skip
    return DrillReport(title, verdict, passed, tuple(tables))


_SHOWN_APART = {"differences", "moments", "recovery", "tables"}


def _stage_rows(results: Sequence[StageResult]) -> Iterator[tuple[str, ...]]:
    yield "stage", "s", "ended (UTC)", "for", "facts"
    for result in results:
        facts = {k: v for k, v in result.facts.items() if k not in _SHOWN_APART}
        text = "; ".join(f"{name}: {value}" for name, value in facts.items())
        ended_at = result.ended_at[:19].replace("T", " ")
        yield result.name, f"{result.seconds:.0f}", ended_at, result.purpose, text


def _recovery(results: Sequence[StageResult]) -> Iterator[ReportTable]:
    cases = {
        case: goals for r in results for case, goals in r.facts.get("recovery", {}).items()
    }  # fmt: skip
    if cases:
        rows = [
            (case, f"{goals['rpo_s']:.0f}", f"{goals['rto_s']:.0f}")
            for case, goals in cases.items()
        ]
        head = ("case", "RPO: lost writes, s", "RTO: destroyed to answering, s")
        yield ReportTable("Recovery", (head, *rows))


def _own_tables(results: Sequence[StageResult]) -> Iterator[ReportTable]:
    for result in results:
        for title, rows in result.facts.get("tables", {}).items():
            yield ReportTable(title, tuple(tuple(map(str, row)) for row in rows))
