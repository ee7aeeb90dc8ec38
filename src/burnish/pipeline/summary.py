"""What a turn came to, in words: for the terminal, and as JSON for scripts and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from burnish import evaluation, registry
from burnish.feedback import judge_agreement, votes
from burnish.feedback import summary as votes_summary
from burnish.monitoring.summary import summary as monitoring_summary
from burnish.records import Json, Record

if TYPE_CHECKING:
    from burnish.pipeline.project import Project
    from burnish.pipeline.turn import Outcome

PAGES = "http://127.0.0.1:8321"


def summary(project: Project, outcome: Outcome) -> list[str]:
    """The end of ``burnish run`` for a person."""
    made = outcome.records
    again = ": every stage was finished before, nothing ran" if outcome.repeated else ""
    lines = [f"turn {outcome.number} of {project.recipe.name}{again}", ""]
    lines += [f"  {name:11} {text}" for name, text in _stages(project, made)]
    if outcome.state == "waiting":
        return [*lines, "", f"{outcome.why}, page at {PAGES}/compare (`burnish serve`); then `burnish run` goes on"]
    lines += ["", *evaluation.lines(made["evaluation"], made["verdict"], made.get("judgement")), ""]
    if _simulated(project):
        lines += [evaluation.SIMULATED, ""]
    serving = project.production()
    name = serving.name if serving else _base(project)
    verb = "serves now" if outcome.state == "promoted" else f"serves still: {outcome.why or 'the gate said no'}"
    return [*lines, f"{name} {verb}", f"`burnish serve {project.path}` opens the page: chat, compare two answers, vote"]


def summary_json(project: Project, outcome: Outcome) -> dict[str, Json]:
    """The same for a script: state, records by stage, verdict, what serves."""
    serving = project.production()
    verdict = outcome.records.get("verdict")
    return {
        "state": outcome.state,
        "turn": outcome.number,
        "why": outcome.why,
        "records": {name: record.id for name, record in outcome.records.items()},
        "verdict": dict(verdict.body) if verdict else None,
        "production": serving.name if serving else None,
    }


def status_json(project: Project) -> dict[str, Json]:
    """What serves, the last turn, votes by source, and what monitoring saw."""
    store, name = project.store, project.recipe.name
    serving = project.production()
    turns = store.records(name, "turn")
    cast = votes(store, name)
    agreed = judge_agreement(cast)
    return {
        "project": name,
        "production": serving.name if serving else None,
        "turns": [dict(turn.body) for turn in turns],
        "next_turn_in": max(0, project.recipe.loop.comparisons - project.fresh_votes()),
        "votes": votes_summary(store, name, cast)["by_source"],
        "judge_agreement": None if agreed is None else asdict(agreed),
        "promotions": len(registry.history(store, name)),
        "monitoring": monitoring_summary(store, name),
    }


def status_lines(project: Project) -> list[str]:
    """The same for a person."""
    status = status_json(project)
    cast = ", ".join(f"{count} {source}" for source, count in status["votes"].items()) or "none yet"
    lines = [
        f"{status['project']}: {status['production'] or _base(project)} serves",
        f"turns: {len(status['turns'])}"
        + (f", the last one {_verdict(status['turns'][-1])}" if status["turns"] else ""),
        f"votes: {cast}",
    ]
    if status["judge_agreement"]:
        agreed = status["judge_agreement"]
        lines.append(f"judge: took the side that people took {_share(agreed)}, on {agreed['clusters']} pairs")
    if status["turns"] and project.recipe.vote_kinds:
        missing = status["next_turn_in"]
        lines.append(
            f"the next turn starts after {missing} more votes"
            if missing
            else "enough new votes are in: `burnish run` starts the next turn"
        )
    return lines


def _base(project: Project) -> str:
    """What answers where nothing was promoted."""
    made = project.store.records(project.recipe.name, "version")
    return f"{made[0].name}, the base," if made else "nothing"


def _verdict(turn: Mapping[str, Json]) -> str:
    if turn["passed"]:
        return "was promoted"
    return f"brought nothing to promote: {turn['why']}" if turn.get("why") else "was refused by its gate"


def _simulated(project: Project) -> bool:
    return project.recipe.feedback.simulate is not None


def _stages(project: Project, made: Mapping[str, Record]) -> list[tuple[str, str]]:
    """What each stage made, in the order of the circle."""
    rows: list[tuple[str, str]] = []
    if "dataset" in made:
        counts = made["dataset"].body["counts"]
        rows.append(("data", ", ".join(f"{count} {name}" for name, count in counts.items())))
    if "sft" in made:
        figures = made["sft"].body["figures"]
        rows.append(("sft", f"{made['sft'].name}: {figures['updates']} updates on {figures['rows']} rows"))
    if "campaign" in made:
        body = made["campaign"].body
        rows.append(("collect", f"{body['comparisons']} pairs, {body['votes_wanted']} votes asked for"))
    if "snapshot" in made:
        body = made["snapshot"].body
        cast = ", ".join(f"{count} {source}" for source, count in body["by_source"].items())
        rows.append(("votes", f"{cast}; raters agree with each other: {_share(body['agreement'])}"))
    if "reward" in made:
        body = made["reward"].body
        rows.append(
            (
                "reward",
                f"held-out accuracy {_share(body['accuracy'])}, calibration error {_number(body['calibration_error'])}",
            )
        )
        rows += [
            (f"  {name}", f"held-out accuracy {_share(said['accuracy'])}") for name, said in body["criteria"].items()
        ]
        rows += [(f"  {name}", f"has no head: {why}") for name, why in body["left_out"].items()]
    if "spans" in made:
        rows.append(("spans", _detected(made["spans"])))
    if "watch" in made:
        rows.append(("watch", f"a second reward model on other raters: {_share(made['watch'].body['accuracy'])}"))
    if "preference" in made:
        rows.append(("preference", _preferred(made["preference"])))
    elif "candidate" in made and "before" in made["candidate"].body["figures"]:
        rows.append(("rl", _improved(made["candidate"])))
    return rows


def _detected(spans: Record) -> str:
    """How well each type of error is found in held-out answers, beside how often it is there."""
    said = []
    for kind, found in spans.body["types"].items():
        rate = "unknown" if found["base_rate"] is None else f"{found['base_rate']:.0%}"
        said.append(f"{kind} {_share(found['average_precision'])} where guessing has {rate}")
    return f"held-out average precision: {'; '.join(said)}"


def _preferred(version: Record) -> str:
    figures, method = version.body["figures"], version.body["settings"]["method"]["value"]
    text = f"{version.name}: {figures['updates']} updates of {method} on {figures['learned']} judged"
    before, after = figures["before"], figures["after"]
    if after is None:
        return text + "; none was held out"
    return text + f"; on {figures['held_out']} held out, accuracy {before['accuracy']:.0%} to {after['accuracy']:.0%}"


def _improved(version: Record) -> str:
    figures = version.body["figures"]
    before, after = figures["before"], figures["after"]
    text = (
        f"{version.name}: {figures['updates']} updates; on dev prompts reward {before['dev_reward']:+.2f} to "
        f"{after['dev_reward']:+.2f}, KL {after['dev_kl']:.3f} nats a token, length {before['dev_length']:.0f} to "
        f"{after['dev_length']:.0f} tokens"
    )
    if "dev_win_share" in figures["won"]:
        text += f"; raters took its answer over the start's {figures['won']['dev_win_share']:.0%} of the time"
    return text + (f"; stopped: {figures['stopped']}" if figures["stopped"] else "")


def _share(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "unknown"
    return f"{figure['value']:.0%} [{_number(figure['low'])}, {_number(figure['high'])}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
