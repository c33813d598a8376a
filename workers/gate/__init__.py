"""The reject gate: closed, unless it holds a standing PASS for the very part in front of it."""

from workers.gate.actuators import Actuator, CallbackActuator, RecordingActuator
from workers.gate.bounded import BoundedActuator
from workers.gate.challenge import ChallengeSettings
from workers.gate.decision import GateDecision, Reason, decide
from workers.gate.gate import Gate
from workers.gate.http import HttpActuator
from workers.gate.journal import Journal, JournalError
from workers.gate.log_source import LogPartSource
from workers.gate.modbus import ModbusActuator, ModbusSettings
from workers.gate.parts import Arrival, PartSource, SimulatedPartSource
from workers.gate.report import Audit, GateReport, audit

__all__ = [
    "Actuator",
    "Arrival",
    "Audit",
    "BoundedActuator",
    "CallbackActuator",
    "ChallengeSettings",
    "Gate",
    "GateDecision",
    "GateReport",
    "HttpActuator",
    "Journal",
    "JournalError",
    "LogPartSource",
    "ModbusActuator",
    "ModbusSettings",
    "PartSource",
    "Reason",
    "RecordingActuator",
    "SimulatedPartSource",
    "audit",
    "decide",
]
