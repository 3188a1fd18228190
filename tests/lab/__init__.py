"""The lab: real servers without virtual machines, on networks that lead nowhere."""

from .lab import Lab
from .network import Gateway
from .nodes import CommandFailed, Node
from .state import LabError, StateFolder

__all__ = ["CommandFailed", "Gateway", "Lab", "LabError", "Node", "StateFolder"]
