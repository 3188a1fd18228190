"""What running steps share: private folder, variables, logs, access to the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perimeter_bundle.format import layout
from perimeter_bundle.format.manifest import ItemKind
from perimeter_bundle.format.verify import VerifiedBundle
from perimeter_bundle.model.events import OnEvent
from perimeter_installer.plan.steps import STEPS_WITH_CLUSTER, Step
from perimeter_installer.run.ansible import PlaybookJob, PlaybookResult, run_playbook
from perimeter_installer.run.content import copy_content
from perimeter_installer.run.kube import KubeAccess, fetch_kubeconfig
from perimeter_installer.run.private import private_folder, write_private
from perimeter_installer.run.scrub import Scrubber
from perimeter_installer.run.secrets import Secrets
from perimeter_installer.run.state import State
from perimeter_installer.run.variables import (
    Variables,
    bundle_variables,
    facts_of,
    playbook_items,
    secret_variables,
    short_name,
)
from perimeter_installer.site.inventory import inventory
from perimeter_installer.site.model import Site


@dataclass(frozen=True, slots=True)
class StepRunner:
    """Runs steps of one bundle at one site; made by ``step_runner``."""

    site: Site
    state: State
    run_id: str
    private: Path
    variables: Variables
    scrub: Scrubber
    check: bool
    on_event: OnEvent

    @property
    def wanted_folder(self) -> Path:
        """Where playbooks/render.yml leaves the values that roles install with."""
        return self.private / "wanted"

    def log_of(self, step: Step) -> Path:
        """Where the whole output of a step goes."""
        return self.state.logs / f"{self.run_id}-{step.name}.log"

    def run(self, step: Step, kube: KubeAccess | None = None) -> PlaybookResult:
        """Runs one step; raises what run_playbook raises."""
        job = PlaybookJob(
            name=step.name,
            playbook=self.private / layout.PLAYBOOKS / step.playbook,
            roles=self.private / layout.ROLES,
            collections=self.private / layout.COLLECTIONS,
            inventory=inventory(self.site),
            variables={
                **self.variables,
                "perimeter_kubeconfig": str(kube.kubeconfig) if kube else "",
                "perimeter_wanted_dir": str(self.wanted_folder),
                "perimeter_values_dir": str(self.private / "values"),
            },
            log=self.log_of(step),
            check=self.check,
        )
        return run_playbook(job, self.private, self.scrub, self.on_event)

    def kube(self, step: Step) -> KubeAccess | None:
        """Fresh access for a step that works through the API: the last control plane may be gone.

        Raises ClusterError[no-control-plane].
        """
        return (
            fetch_kubeconfig(self.site, self.private) if step.name in STEPS_WITH_CLUSTER else None
        )


@contextmanager
def step_runner(
    bundle: VerifiedBundle,
    site: Site,
    secrets: Secrets,
    run_id: str,
    *,
    check: bool,
    on_event: OnEvent,
) -> Iterator[StepRunner]:
    """A StepRunner whose private folder is gone when the block ends.

    Raises IntegrityError[digest-mismatch] when what playbooks will read is not what was signed.
    """
    state = State.of(site)
    state.make()
    # roles read these from the bundle by their path
    bundle.check_blobs((item.payload for item in playbook_items(bundle)), on_event)
    with private_folder() as private:
        copy_content(bundle, private)
        (private / "wanted").mkdir(mode=0o700)
        for item in bundle.manifest.items_of(ItemKind.CHART):
            chart = short_name(
                item
            )  # files, not variables: nothing in them is a template to Ansible
            values = json.dumps(site.values.get(chart, {}))
            write_private(private / "values" / f"{chart}.json", values.encode())
        variables = bundle_variables(facts_of(bundle), site, state.folder.absolute())
        yield StepRunner(
            site=site,
            state=state,
            run_id=run_id,
            private=private,
            variables={**variables, **secret_variables(secrets)},
            scrub=Scrubber(secrets.values),
            check=check,
            on_event=on_event,
        )
