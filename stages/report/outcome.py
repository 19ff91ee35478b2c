"""The head of a report: what the run was to do, what came of it, and the table of all who were judged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hyperloom.pipeline.counting import share
from hyperloom.pipeline.fingerprint import SHORT
from hyperloom.stages import champion as champions
from hyperloom.stages.base import modality_of, source_of
from hyperloom.stages.evaluate.slices import judged_modality
from hyperloom.stages.evaluate.verdict import kind_of
from hyperloom.stages.lesson import rehearsal
from hyperloom.stages.measure.cost import RUNTIMES
from hyperloom.stages.measure.measure import better, directions, measure_of
from hyperloom.stages.report.history import latencies
from hyperloom.stages.report.page import Estimate, PageTable, Section, Tone, Words
from hyperloom.stages.report.render import number, written
from hyperloom.stages.report.root import ReportedRoot
from hyperloom.stages.results import Drifted, Ingested, Judged, Labels, Released, Shards, Trained

MOST_NAMED = 6
"""Experts that the first sentence names; of more it says how many."""
ORDER = ("expert", "consensus", "model")


def task(root: ReportedRoot) -> str:
    """What the recipe is for, in one sentence."""
    experts = [e for step in root.steps if step.stage.stage == "label" for e in getattr(step.stage, "experts", ())]
    sources = [name for expert in experts if getattr(expert, "type", "") != "model" for name in _tells(root, expert)]
    targets = [list(getattr(s.stage, "targets", {})) for s in root.steps if s.stage.stage in ("train", "distill")]
    parts = []
    if sources:
        some = _listed(sources) if len(sources) <= MOST_NAMED else f"{len(sources)} experts"
        parts.append(f"label samples with {some}")
    if targets:
        student = any(step.stage.stage == "distill" for step in root.steps)
        parts.append(f"train {'a student' if student else 'a model'} for {_listed(targets[-1])}")
    released = [s.stage for s in root.steps if s.stage.stage == "release"]
    for stage in released:
        gate = getattr(stage, "gate", {})
        conditions = _listed([f"{figure} {text}" for figure, texts in gate.items() for text in texts])
        parts.append(f"release it as {getattr(stage, 'name', '')}" + (f" if {conditions}" if conditions else ""))
    return f"The recipe: {_listed(parts)}." if parts else ""


def _tells(root: ReportedRoot, expert: Any) -> list[str]:
    """The sources that an expert's columns have; none where it only makes other pictures of pictures."""
    columns = [c for c in getattr(expert, "out", ()) if not getattr(root.modalities.get(modality_of(c)), "rgb", False)]
    return list(dict.fromkeys(map(source_of, columns)))


def sentence(root: ReportedRoot) -> tuple[str, Tone]:
    """What came of it, in one sentence."""
    undone = [step for step in root.steps if step.manifest is None]
    parts = []
    judged = root.judged()
    if judged is not None and (figures := _pilot(judged[1]) or _headline(root, judged[1])):
        parts.append(figures)
    release = [r for _, r in root.results(Released)]
    parts += [f"{r.name} {_standing(root, step.fingerprint, r)}" for step, r in root.results(Released)]
    parts += [f"drift: {'alarm' if d.alarm else 'no alarm'}" for _, d in root.results(Drifted)]
    if not parts:
        parts.append(_holds(root))
    if undone:
        failed = [s.name for s in undone if root.history(s).status not in ("", "done", "running", "interrupted")]
        what = f"{_listed(failed)} failed" if failed else f"{_listed([s.name for s in undone])} not done yet"
        parts.append(what)
    bad = any(not r.passed for r in release) or bool(undone) or any(d.alarm for _, d in root.results(Drifted))
    return "; ".join(filter(None, parts)) + ".", "bad" if bad else "good" if release else "plain"


def _standing(root: ReportedRoot, fingerprint: str, release: Released) -> str:
    """What a release is by now: it may have been champion, and rolled back or followed by another since."""
    if not release.passed:
        return "is registered and NOT the champion"
    champion = champions.current(root.storage, release.name)
    if champion is not None and champion.release == fingerprint:
        return "is the champion"
    now = f": now {champion.release[:SHORT]} is" if champion is not None else ""
    return f"passed its gate and is the champion no longer{now}"


def doubts(root: ReportedRoot) -> list[str]:
    """What keeps the figures from proving anything."""
    judged = root.judged()
    if judged is None:
        return []
    report = judged[1]
    lines = [f"LEAK: {who}: {why}" for who, whys in report.leaks.items() for why in whys]
    return lines + [f"NO TRUTH: {why}" for why in report.untrue.values()]


def results(root: ReportedRoot) -> Section | None:
    """The table of everybody who was judged, one for each evaluation, with what it says in words."""
    blocks: list[Any] = []
    several = len(list(root.results(Judged))) > 1
    for step, report in root.results(Judged):
        blocks.append(_table(root, step, report, step.name if several else ""))
        lines = list(vars(report)["said"])
        blocks += [Words(lines, folded=f"In words ({len(lines)})")] if lines else []
    known = doubts(root)
    for step, release in root.results(Released):
        lines = [line for line in release.gate if line not in known]
        if lines:
            blocks.append(Words([f"{step.name}: {line}" for line in lines], "good" if release.passed else "bad"))
    return Section("results", "Results", blocks) if blocks else None


def metrics(root: ReportedRoot, report: Judged) -> dict[str, tuple[str, bool]]:
    """The figure that decides, by modality, and whether a higher one is better."""
    gates = [judged_modality(m) for s in root.steps for m in getattr(s.stage, "gate", {})]
    truths = [getattr(s.stage, "truth", None) for s in root.steps]
    named = [m for truth in truths if isinstance(truth, dict) for m in truth]
    order = dict.fromkeys([*gates, *named, *report.truth])
    known = {m: root.modalities[m] for m in order if m in report.truth and m in root.modalities}
    return {m: (f"{m}.{kind.metric}", directions(kind).get(kind.metric, True)) for m, kind in known.items()}


class Speed(NamedTuple):
    """Milliseconds a frame, and in which runtime these are."""

    milliseconds: float
    runtime: str


def speeds(root: ReportedRoot, step: Any) -> dict[str, Speed]:
    """Who -> how fast: in the runtime that is fastest, else as it was judged."""
    fastest: dict[str, Speed] = {}
    judged: dict[str, Speed] = {}
    for who, runtime, value in latencies(root.history(step).figures):
        speed = Speed(value, RUNTIMES.get(runtime, runtime))
        if runtime:
            fastest[who] = min(speed, fastest.get(who, speed))
        else:
            judged[who] = speed
    return {**judged, **fastest}


def bounds_of(report: Judged, who: str, figure: str) -> tuple[float | None, float | None]:
    pair = ((report.bounds or {}).get(who) or {}).get(figure)
    return (pair[0], pair[1]) if pair else (None, None)


def _table(root: ReportedRoot, step: Any, report: Judged, title: str) -> PageTable:
    decisive, speed = metrics(root, report), speeds(root, step)
    who = sorted(report.figures, key=lambda n: (_rank(report.kinds.get(n, "model")), n))
    who += [family for family in report.seeds or {} if family not in who]
    rivals = [name for name in who if name not in report.rehearsals]
    partial = {figure: text for figure, _ in decisive.values() if (text := _partial(root, report, figure))}
    best = {f: None if f in partial else _best(report, rivals, f, up) for f, up in decisive.values()}
    rows: list[list[Any]] = []
    for name in who:
        figures = report.figures.get(name, {})
        mean = {k: row["mean"] for k, row in ((report.seeds or {}).get(name) or {}).items()}
        cells: list[Any] = [name, kind_of(name, report.kinds.get(name, "mean over seeds"), report.rehearsals)]
        for figure, _ in decisive.values():
            value = figures.get(figure, mean.get(figure))
            cells.append(Estimate(value, *bounds_of(report, name, figure), best=name == best[figure]))
        cost = report.costs.get(name, {})
        flops = cost.get("flops")
        cells += [cost.get("parameters"), None if flops is None else flops / 1e6, *speed.get(name, (None, None))]
        rows.append(cells)
    columns = ["who", "kind", *(_arrow(f, up) for f, up in decisive.values())]
    columns += ["parameters", "MFLOPs", "ms a frame", "timed in"]
    kept = [i for i in range(len(columns)) if i < 2 or any(_filled(row[i]) for row in rows)]
    drawn = report.intervals or {}
    note = f"{report.samples:,} samples of the split {report.split!r}"
    if level := drawn.get("level"):
        note += f"; small figures are {100 * level:g}% intervals, resampled over {drawn['over']}"
    note = "; ".join([note, *partial.values()])
    return PageTable([columns[i] for i in kept], [[row[i] for i in kept] for row in rows], title, note)


def _partial(root: ReportedRoot, report: Judged, figure: str) -> str:
    """What to say of a figure of answers where who is judged did not answer as much as the others, so that no figure
    is the best as it stands; else empty."""
    name, _, measure = figure.rpartition(".")
    if measure not in measure_of(root.modalities[name]).of_answers:
        return ""
    shares = {who: f[f"{name}.coverage"] for who, f in report.figures.items() if f"{name}.coverage" in f}
    most = max(shares.values(), default=0.0)
    fewer = [f"{who} {share(part)}" for who, part in shares.items() if part < most]
    return f"{figure} is of what each answers, {_listed(fewer)} of all" if fewer else ""


def rehearsed(root: ReportedRoot) -> bool:
    """Is the report that counts a pilot's, whose models are not judged?"""
    judged = root.judged()
    return judged is not None and bool(judged[1].rehearsals)


def _pilot(report: Judged) -> str:
    """Of a pilot: what is there to be looked at, and what is not judged."""
    if not report.rehearsals:
        return ""
    models = {name: how for name, how in report.rehearsals.items() if name in report.kinds}  # not their means
    experts = [name for name, kind in report.kinds.items() if kind == "expert"]
    useful = "the labels of the samples below are what there is to look at: " if experts or report.untrue else ""
    return rehearsal(models, useful)


def _headline(root: ReportedRoot, report: Judged) -> str:
    """The best model and the best expert by the first modality that the report decides."""
    models = [n for n, kind in report.kinds.items() if kind == "model" and n != "champion"]
    students = {s.name for s in root.steps if s.stage.stage == "distill"}
    for modality, (figure, up) in metrics(root, report).items():
        able = [n for n in models if figure in report.figures[n]]
        if not able:
            continue
        chosen = [n for n in able if n in students] or able
        name = _best(report, chosen, figure, up) or chosen[0]
        expert = report.best_expert.get(modality)
        doubtful = modality in report.untrue or name in report.leaks
        text = f"{name} has {figure.replace('.', ' ')} {_value(report, name, figure)} on {report.samples:,} samples"
        text += f" of the split {report.split!r}"
        if expert and figure in report.figures.get(expert, {}):
            text += f", the best expert ({expert}) {_value(report, expert, figure)}"
            text += _verdict(report, name, expert, figure)
        return text + (", which proves nothing about being right (see below)" if doubtful else "")
    return ""


def _verdict(report: Judged, name: str, expert: str, figure: str) -> str:
    """What the difference says, and of which samples it is where the expert left some out."""
    for row in report.differences or ():
        if (row["who"], row["against"], row["figure"]) != (name, expert, figure):
            continue
        both = f"on the {row['samples']:,} samples that both answer" if row.get("samples") else ""
        common = f"; {both} {number(row['value'])} against {number(row['reference'])}" if both else ""
        if row.get("better") is not None:
            return common
        if row.get("low") is None:
            return f"{common}; these are too few samples to say how sure that is"
        return f"{common}: too close to call on so few samples"
    return ""


def _value(report: Judged, name: str, figure: str) -> str:
    text, low, high = written(Estimate(report.figures[name][figure], *bounds_of(report, name, figure)))
    return f"{text} ({low} to {high})" if low else text


def _best(report: Judged, names: Iterable[str], figure: str, up: bool) -> str | None:
    winner: str | None = None
    for name in names:
        value = report.figures.get(name, {}).get(figure)
        if value is not None and (winner is None or better(value, report.figures[winner][figure], up)):
            winner = name
    return winner


def _holds(root: ReportedRoot) -> str:
    """Of a recipe that judges no model: what it holds."""
    samples = sum(step.manifest.rows for step, _ in root.results(Ingested) if step.manifest)
    columns = sorted({c for _, labels in root.results(Labels) for c in labels.columns})
    models = [step.name for step, _ in root.results(Trained)]
    parts = [f"{samples:,} samples"] if samples else []
    parts += [f"{len(columns)} column{'s' * (len(columns) > 1)} of labels"] if columns else []
    parts += [f"shards of {sum(s.rows for s in shards.shards):,} samples" for _, shards in root.results(Shards)][:1]
    parts += [f"trained: {_listed(models)}"] if models else []
    judged = "no model was judged" if root.judged() else "nothing was judged"
    return f"the root holds {_listed(parts)}; {judged}" if parts else "the root holds nothing of it yet"


def _rank(kind: str) -> int:
    return ORDER.index(kind) if kind in ORDER else len(ORDER)


def _arrow(figure: str, up: bool) -> str:
    return f"{figure} {'↑' if up else '↓'}"


def _filled(cell: Any) -> bool:
    return cell.value is not None if isinstance(cell, Estimate) else cell is not None


def _listed(names: Iterable[str]) -> str:
    """a, b and c."""
    names = list(names)
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1] if names else ""
