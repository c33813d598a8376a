"""The reject gate: closed, unless it holds a standing PASS for the very part in front of it."""

from workers.gate.actuators import Actuator, CallbackActuator, RecordingActuator
from workers.gate.decision import GateDecision, Reason, decide
from workers.gate.gate import Gate
from workers.gate.journal import Journal, JournalError
from workers.gate.parts import Arrival, LogPartSource, PartSource, SimulatedPartSource
from workers.gate.report import Audit, GateReport, audit

__all__ = [
    "Actuator",
    "Arrival",
    "Audit",
    "CallbackActuator",
    "Gate",
    "GateDecision",
    "GateReport",
    "Journal",
    "JournalError",
    "LogPartSource",
    "PartSource",
    "Reason",
    "RecordingActuator",
    "SimulatedPartSource",
    "audit",
    "decide",
]
