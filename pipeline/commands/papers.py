"""`hyperloom papers`: the claims of papers, each a recipe with a verdict and a record."""

from __future__ import annotations

from typing import Any, TypeAlias

from hyperloom.pipeline.counting import counted

FOLDER, PAGE, ROOT = "recipes/papers", "docs/papers.md", "runs/papers"


def add(commands: Any) -> None:
    help_ = "test the claims of papers: list, run, report, check"
    group = commands.add_parser("papers", help=help_, description=help_)
    parts = group.add_subparsers(dest="part", required=True, metavar="PART")
    for name, function, text in (
        ("list", _list, "what is there, its verdict, and whether its record is fresh"),
        ("run", _run, "run those that are stale or were never run, and record their verdicts"),
        ("report", _report, f"print the table and write {PAGE}"),
        ("check", _check, f"compare records and {PAGE} with recipes, code and data; 1 when something is stale"),
    ):
        sub = parts.add_parser(name, help=text, description=text)
        sub.add_argument("chosen", nargs="*", help="families, numbers or names; by default all")
        sub.add_argument("--folder", default=FOLDER, help=f"where the recipes are ({FOLDER})")
        sub.add_argument("--root", default=ROOT, help=f"where their steps are kept ({ROOT})")
        if name in ("report", "check"):
            sub.add_argument("--page", default=PAGE, help=f"the page ({PAGE})")
        sub.set_defaults(command=function)
        if name == "run":
            sub.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="so many papers at once (1)")
            sub.add_argument("--cluster", action="store_true", help="on Ray, in one root where equal steps are shared")
            sub.add_argument("--again", action="store_true", help="those with a fresh record too")
            sub.set_defaults(long=True)


def _papers(given: Any) -> Any:
    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.stages.papers.shelf import papers

    return papers(given.folder, given.chosen, given.root)


def _list(given: Any) -> int:
    from hyperloom.pipeline.output.tables import table
    from hyperloom.stages.papers.table import rows

    given.answer = listed = rows(_papers(given))
    print(table(listed))
    return 0


def _run(given: Any) -> int:
    chosen = _papers(given)
    due = [one for one in chosen if given.again or one.standing in ("stale", "never")]
    words, failed = _on_ray(due, given.root) if given.cluster else _here(due, given)
    given.answer = {"verdicts": words, "failed": failed}
    unknown = 0 if given.again else _unknown(chosen)
    if not due and not unknown:
        print("all records are fresh")
    for name, error in failed.items():
        print(f"{name}: {error}")
    return 1 if failed else 0


KILLED = (
    "a process of the papers was killed, which ends all that run beside it. Next: the same command goes on; with less "
    "memory than they need, a smaller -j"
)
PaperWords: TypeAlias = tuple[dict[str, str], dict[str, str]]
"""By paper: words of those that ended, errors of the others."""


def _here(due: Any, given: Any) -> PaperWords:
    """Each paper in a process of its own; what fails does not stop the others. They end with this one."""
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
    from multiprocessing import active_children, get_context

    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.stages.papers.trial import alone

    words, failed = {}, {}
    with ProcessPoolExecutor(max(1, given.jobs), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(alone, given.folder, one.name, given.root): one for one in due}
        for one in due:
            print(f"{one.title}: log in {one.root}/papers.log")
        try:
            for future in as_completed(running):
                one = running[future]
                try:
                    words[one.title] = future.result()
                    print(f"{one.title}: {words[one.title]}")
                except (HyperloomError, OSError) as error:
                    failed[one.title] = str(error)
                except BrokenExecutor:
                    failed[one.title] = KILLED
                except Exception as error:  # of code beside the recipe, for instance; the others go on
                    failed[one.title] = f"{type(error).__name__}: {error}"
        except BaseException:  # it is to end, of which a terminal tells all its processes, `kill` this one alone
            pool.shutdown(wait=False, cancel_futures=True)
            for process in active_children():
                process.terminate()
            raise
    return words, failed


def _on_ray(due: Any, root: str) -> PaperWords:
    """One after the other in one root, on the cluster that the first one's recipe names."""
    from dataclasses import replace

    from hyperloom.pipeline.commands import opening
    from hyperloom.pipeline.errors import HyperloomError
    from hyperloom.stages.papers.trial import tried

    words, failed = {}, {}
    for one in due:
        try:
            words[one.title] = tried(replace(one, root=root), opening.connect(one.loaded))
            print(f"{one.title}: {words[one.title]}")
        except HyperloomError as error:
            failed[one.title] = str(error)
    return words, failed


def _report(given: Any) -> int:
    from hyperloom.pipeline.output.tables import table
    from hyperloom.stages.papers.table import rows, write_page

    listed = _papers(given)
    if not given.chosen:
        write_page(given.page, listed)
        print(f"wrote {given.page}")
    given.answer = rows(listed)
    print(table(given.answer))
    return 0


def _check(given: Any) -> int:
    from hyperloom.stages.papers.table import is_page

    listed = _papers(given)
    stale = [one for one in listed if one.standing == "stale"]
    lines = {one.title: one.moved() for one in stale}
    for one in stale:
        why = "is of other code, lines or data. Next:"
        if not one.record.whole:
            why = "was changed since it was written. Next: restore it or remove it, then"
        print(f"{one.title}: its record {why} hyperloom papers run {one.name}")
        print("".join(f"  {sentence}\n" for sentence in lines[one.title]), end="")
    old = list(lines)
    for one in listed:
        if one.standing in ("stale", "never") and (mistakes := one.mistakes()):
            print(mistakes)
            old += [one.title] if one.title not in old else []
    unknown = _unknown(listed)
    if not given.chosen and not is_page(given.page, listed):
        print(f"{given.page} is not what the records say. Next: hyperloom papers report")
        old.append(given.page)
    given.answer = {"stale": old, "moved": lines}
    if not old:
        records = sum(one.record is not None for one in listed) - unknown
        print(f"{counted(records, 'record')} and {given.page}: nothing is stale")
    return 1 if old else 0


def _unknown(papers: Any) -> int:
    """Say which records nobody can compare, and how many they are."""
    names = [one.title for one in papers if one.standing == "no data"]
    for name in names:
        print(f"{name}: its data is not here, so its record was not looked at")
    return len(names)
