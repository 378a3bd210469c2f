"""Reprocess: which partitions of a stage on-call may run again, and which are left as they are."""

from edgeloop.reprocess.plan import Plan, plan
from edgeloop.reprocess.request import STAGES, Request, parse
from edgeloop.reprocess.survey import survey
from edgeloop.reprocess.units import Attempt, State, Unit

__all__ = ["STAGES", "Attempt", "Plan", "Request", "State", "Unit", "parse", "plan", "survey"]
