"""The connected side of perimeter, and the contract both sides share.

``model`` and ``format`` are the contract; ``terminal`` is how both programs speak to people.
Everything else here runs on the connected machine only.
"""

__version__ = "0.1.0"
