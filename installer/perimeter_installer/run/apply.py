"""Apply: the plan's steps, one after the other, journalled so that an interrupted run goes on.

 1. The site's lock is taken; the plan is made from bundle, site and journal.
 2. Steps that an interrupted run of this very bundle and site.yaml had finished are skipped.
 3. Charts and manifests, rendered with the site's values, may need nothing that the bundle lacks.
 4. After the registry step every name of the bundle must resolve on every replica.
 5. Each step is written down before it begins and after it ended; the first that fails ends it.
With ``check`` nothing is written down and Ansible changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.digest import Digest
from perimeter_bundle.model.errors import ClusterError, PerimeterError
from perimeter_bundle.model.events import Event, EventKind, OnEvent, ignore_events
from perimeter_installer.load.load import check_loaded
from perimeter_installer.plan.steps import STEPS_WITH_CLUSTER, Step, plan, refuse_carried
from perimeter_installer.run import journal
from perimeter_installer.run.ansible import PlaybookResult
from perimeter_installer.run.audit import audited, now_text, user_name
from perimeter_installer.run.journal import Entry, EntryKind
from perimeter_installer.run.playbook_events import HostStats
from perimeter_installer.run.secrets import Secrets, open_secrets
from perimeter_installer.run.site_objects import refuse_unknown_values, render_and_gate
from perimeter_installer.run.state import State
from perimeter_installer.run.step_runner import StepRunner, step_runner
from perimeter_installer.site.model import Site


class Outcome(Enum):
    """What became of a step."""

    DONE = "done"
    SKIPPED = "skipped"  # finished by the interrupted run
    NOT_YET = "not-yet"  # check only: needs a cluster that is not there


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """What the caller may choose. ``afresh``: skip nothing of an interrupted run."""

    check: bool = False
    only: tuple[str, ...] = ()
    allow_older: bool = False
    afresh: bool = False
    password_file: Path | None = None

    @property
    def command(self) -> str:
        """The command as the audit log writes it."""
        words = ["apply"]
        words += ["--check"] if self.check else []
        words += [f"--step {name}" for name in self.only]
        words += ["--allow-older"] if self.allow_older else []
        words += ["--afresh"] if self.afresh else []
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of an apply."""

    step: Step
    outcome: Outcome
    hosts: dict[str, HostStats] = field(default_factory=dict)
    seconds: float = 0.0
    log: Path | None = None

    @property
    def changed(self) -> int:
        """Changed tasks on all hosts."""
        return sum(stats.changed for stats in self.hosts.values())

    def to_dict(self) -> dict[str, object]:
        """The step as ``--json`` prints it."""
        return {
            "name": self.step.name,
            "title": self.step.title,
            "state": self.outcome.value,
            "changed": self.changed,
            "hosts": {host: stats.to_dict() for host, stats in self.hosts.items()},
            "seconds": round(self.seconds, 1),
            "log": str(self.log) if self.log else None,
        }


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What an apply did."""

    run: str
    release: str
    number: int
    check: bool
    steps: tuple[StepReport, ...]

    @property
    def changed(self) -> int:
        """Changed tasks of all steps; 0 when the site was as it should be."""
        return sum(step.changed for step in self.steps)

    @property
    def resumed(self) -> bool:
        """Whether it went on with an interrupted run."""
        return any(step.outcome is Outcome.SKIPPED for step in self.steps)

    def to_dict(self) -> dict[str, object]:
        """The report as ``--json`` prints it."""
        return {
            "run": self.run,
            "release": self.release,
            "number": self.number,
            "check": self.check,
            "changed": self.changed,
            "resumed": self.resumed,
            "steps": [step.to_dict() for step in self.steps],
        }


def plan_apply(
    bundle: VerifiedBundle, site: Site, options: ApplyOptions | None = None
) -> tuple[Step, ...]:
    """What ``apply`` would do now, for people to see first; raises what ``plan`` raises."""
    options = options or ApplyOptions()
    history = journal.history(
        journal.read(State.of(site).journal), bundle.identity, site_digest(site)
    )
    if options.afresh or options.check or options.only:
        history = history.forgetting_steps()
    steps = plan(bundle.manifest, site, history, only=options.only, allow_older=options.allow_older)
    refuse_carried(bundle.manifest, options.only)
    refuse_unknown_values(bundle.manifest, site)
    return steps


def apply(
    bundle: VerifiedBundle,
    site: Site,
    *,
    options: ApplyOptions | None = None,
    on_event: OnEvent = ignore_events,
) -> ApplyReport:
    """Brings ``site`` to the state of ``bundle``; a second call reports zero changes.

    Raises HostError or ClusterError for a step that failed, InputError for a plan that is refused,
    HostError[already-running], HostError[not-loaded], KeyboardInterrupt.
    """
    options = options or ApplyOptions()
    state = State.of(site)
    with state.locked(options.command):
        steps = plan_apply(bundle, site, options)
        secrets = open_secrets(
            site, password_file=options.password_file, check=options.check, on_event=on_event
        )
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
        audit = (
            nullcontext()
            if options.check
            else audited(state, options.command, bundle.manifest.release, str(bundle.identity))
        )
        with (
            audit,
            step_runner(
                bundle, site, secrets, run_id, check=options.check, on_event=on_event
            ) as runner,
        ):
            if any(step.name in STEPS_WITH_CLUSTER and not step.done for step in steps):
                render_and_gate(bundle, runner)  # 3
            writer = _Writer(state, bundle, site, run_id, options)
            reports = _run_steps(runner, writer, bundle, secrets, steps)
    return ApplyReport(
        run=run_id,
        release=bundle.manifest.release,
        number=bundle.manifest.number,
        check=options.check,
        steps=reports,
    )


def site_digest(site: Site) -> Digest:
    """Identity of site.yaml: an interrupted run goes on only when it is the same."""
    return Digest.of_bytes(site.path.read_bytes())


def _run_steps(
    runner: StepRunner,
    writer: _Writer,
    bundle: VerifiedBundle,
    secrets: Secrets,
    steps: Collection[Step],
) -> tuple[StepReport, ...]:
    writer.begin()
    reports: list[StepReport] = []
    loaded = runner.check  # a check looks at hosts alone
    for step in steps:
        if step.name != "registry" and not loaded:
            check_loaded(bundle, runner.site, secrets)  # 4
            loaded = True
        if step.done:
            writer.step(EntryKind.STEP_SKIPPED, step)
            runner.on_event(Event(EventKind.SKIP, step.name, "an interrupted run finished it"))
            reports.append(StepReport(step, Outcome.SKIPPED))
            continue
        reports.append(_run_step(runner, writer, step))
    writer.end(sum(report.changed for report in reports))
    return tuple(reports)


def _run_step(runner: StepRunner, writer: _Writer, step: Step) -> StepReport:
    began = time.monotonic()
    writer.step(EntryKind.STEP_STARTED, step)
    try:
        try:
            kube = runner.kube(step)
        except ClusterError as error:
            if not runner.check or error.code != "no-control-plane":
                raise
            runner.on_event(Event(EventKind.SKIP, step.name, "there is no cluster yet"))
            return StepReport(step, Outcome.NOT_YET)
        result = runner.run(step, kube)
    except PerimeterError as error:
        writer.step(EntryKind.STEP_FAILED, step, message=f"{error.code}: {error.message}")
        raise
    writer.step(EntryKind.STEP_FINISHED, step, result)
    return StepReport(
        step,
        Outcome.DONE,
        hosts=dict(result.hosts),
        seconds=time.monotonic() - began,
        log=runner.log_of(step),
    )


class _Writer:
    """Writes this run's journal; nothing at all with ``check``."""

    def __init__(
        self, state: State, bundle: VerifiedBundle, site: Site, run_id: str, options: ApplyOptions
    ) -> None:
        self._state = state
        self._options = options
        self._fixed = {
            "run": run_id,
            "bundle": str(bundle.identity),
            "site": str(site_digest(site)),
            "release": bundle.manifest.release,
            "user": user_name(),
        }
        self._number = bundle.manifest.number

    def begin(self) -> None:
        message = journal.AFRESH if self._options.afresh else ""
        self._append(EntryKind.RUN_STARTED, message=message)

    def step(
        self,
        kind: EntryKind,
        step: Step,
        result: PlaybookResult | None = None,
        *,
        message: str = "",
    ) -> None:
        self._append(
            kind,
            step=step.name,
            message=message,
            changed=result.changed if result else 0,
            hosts={host: stats.to_dict() for host, stats in result.hosts.items()} if result else {},
        )

    def end(self, changed: int) -> None:
        self._append(EntryKind.RUN_FINISHED, changed=changed)

    def _append(
        self,
        kind: EntryKind,
        *,
        step: str = "",
        message: str = "",
        changed: int = 0,
        hosts: dict[str, dict[str, int]] | None = None,
    ) -> None:
        if self._options.check:
            return
        entry = Entry(
            kind=kind,
            time=now_text(),
            number=self._number,
            step=step,
            whole=not self._options.only,
            changed=changed,
            message=message,
            hosts=hosts or {},
            **self._fixed,
        )
        journal.append(self._state.journal, entry)
