"""``crosscheck changeover``: the product of one station, by the PLC's word."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import structlog

from workers.changeover import Changeover, ChangeoverSettings
from workers.changeover.plc import ModbusPlc, PlcSettings, parse_products
from workers.clock import SystemClock
from workers.commands import console
from workers.commands.local import open_bus, open_store
from workers.errors import SettingsError
from workers.logs import configure_logs
from workers.settings import Settings
from workers.store.keys import checked
from workers.telemetry.assembly import Assembly
from workers.telemetry.changeover import watch_changeover

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeoverOptions:
    """What the command line says.

    Attributes:
        station: whose product it is.
        plc: the PLC's address, or None with ``forget``.
        products: ``1=cap,2=lid``, or None with ``forget``.
        every_s: seconds between two readings.
        margin_s: by how much clocks may differ; None: as much as the settings allow an agent.
        lost_s: see ``ChangeoverSettings``.
        forget: the product does not come from a PLC any more.
    """

    station: str
    plc: str | None
    products: str | None
    every_s: float
    margin_s: float | None
    lost_s: float
    forget: bool


def run_changeover(settings: Settings, options: ChangeoverOptions) -> int:
    """Follow the PLC until a signal.

    Raises:
        SettingsError: an option is missing or wrong.
        ServiceError: Kafka or Redis does not answer at the start.
    """
    configure_logs(settings.log)
    checked("station", options.station)
    if options.forget:
        return _forget(settings, options)
    if options.plc is None or options.products is None:
        raise SettingsError("changeover: say where the PLC is and what its numbers mean: --plc and --map")
    if options.every_s >= options.lost_s:
        raise SettingsError(
            f"--every-ms {options.every_s * 1e3:g} is not under --lost-ms {options.lost_s * 1e3:g}:"
            " each reading would count as a PLC that was away; read it more often"
        )
    address = PlcSettings.parse(options.plc)
    wanted = ChangeoverSettings(
        station=options.station,
        products=parse_products(options.products),
        margin_s=settings.max_clock_offset_ms / 1e3 if options.margin_s is None else options.margin_s,
        lost_s=options.lost_s,
    )
    clock = SystemClock()
    with ExitStack() as stack:
        telemetry = Assembly("changeover", settings.metrics)
        stack.enter_context(telemetry.served())
        plc = ModbusPlc(address, clock=clock)
        stack.callback(plc.close)
        bus = open_bus(settings, "control")
        stack.callback(bus.close)
        store = open_store(settings)
        watch = Changeover(
            plc,
            store,
            # A broker that is away must not hold the next reading up.
            bus.producer(max_block=0.2, delivery_timeout=2.0),
            wanted,
            topic=settings.topic("control"),
            clock=clock,
        )
        stop = stack.enter_context(console.stop_on_signal())
        watch_changeover(telemetry, watch, station=options.station, redis=store.contact, stop=stop)
        log.info("changeover_started", station=options.station, plc=str(address), products=options.products)
        while not stop.is_set():
            began = clock.monotonic()
            watch.step()
            stop.wait(max(0.001, options.every_s - (clock.monotonic() - began)))
    log.info(
        "changeover_stopped",
        station=options.station,
        changes=watch.changes,
        alarms=dict(watch.alarms),
        note="parts are not passed until it runs again",
    )
    return console.OK


def _forget(settings: Settings, options: ChangeoverOptions) -> int:
    was = open_store(settings).forget_product(options.station)
    console.out.print(
        f"{options.station}: its product does not come from a PLC any more; start its gate again"
        if was
        else f"{options.station}: its product does not come from a PLC"
    )
    return console.OK
