"""State, bundle and site to steps."""

from perimeter_installer.plan.steps import STEP_NAMES, History, Step, plan

__all__ = ["STEP_NAMES", "History", "Step", "plan"]
