"""The driver against a simulated board: link and engine in RTL, at the end of a pseudo-terminal
that damages bytes, is pulled, or is used by two. All cases share one simulator."""

import re
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import pleach
from pleach.engine import EngineConfig
from pleach.engine.protocol import GATEWARE_VERSION, EngineError
from pleach.errors import EngineRefused, LinkError, ModelError
from pleach.format import dumps, load
from pleach.host import Driver, SerialLink, serial
from pleach.host.frames import LINK_VERSION
from pleach.reference import Reference
from pleach_cli import main
from pleach_sim.cable import Cable, Noise
from tests.golden.make import HERE
from tests.strategies import random_inputs, random_model
from tests.transcripts import transcript

ENGINE = EngineConfig(
    pes=1, lanes=1, layers=3, columns=128, entries=512, codebook=32, accumulators=64, ram_latency=1
)
PAGE = Path(__file__).parents[2] / "docs/how-to/run.md"
MODEL = load(HERE / "model.pleach")
OTHER = random_model(np.random.default_rng(5), [30, 6], density=0.4, codebook=7)
INPUTS = np.loadtxt(HERE / "inputs.txt", np.int16)
OUTPUTS = np.loadtxt(HERE / "outputs.txt", np.int16)


@pytest.fixture
def cable():
    with Cable(ENGINE) as cable:
        yield cable


@pytest.fixture
def impatient(monkeypatch):
    """What is gone is found gone sooner; each try is as patient as ever."""
    monkeypatch.setattr(serial, "LONGEST_PATIENCE", 0.2)


def right(driver: Driver) -> None:
    """Both networks load and run as the reference has them."""
    for model in (OTHER, MODEL):
        inputs = random_inputs(np.random.default_rng(3), model, 3)
        assert driver.load(model).outputs == model.outputs
        assert np.array_equal(driver.run(inputs), Reference(model).run(inputs))


def test_engine_of_python():
    with pleach.Engine.simulated(ENGINE) as engine:
        with pytest.raises(ModelError, match="call load first"):
            engine.run(INPUTS)
        with pytest.raises(ModelError, match="holds no network; .* does not load itself"):
            engine.adopt(HERE / "model.pleach")
        engine.load(HERE / "model.pleach")
        assert np.array_equal(engine.run(INPUTS), OUTPUTS)
        real = engine.run(INPUTS[0], floats=True)
        assert np.array_equal(real, MODEL.dequantise(OUTPUTS[:1])[0]) and real.dtype == float
        floats = INPUTS / 2.0**MODEL.input_fraction
        assert np.array_equal(engine.run(floats), OUTPUTS)
        batches = engine.run(iter([INPUTS[:0], INPUTS[0], INPUTS[1:], INPUTS[:0]]))
        shapes = [batch.shape for batch in batches]
        assert shapes == [(0, 5), (5,), (3, 5), (0, 5)]
        status = engine.status()
        assert (status.version, status.pes, status.model_held) == (GATEWARE_VERSION, 1, 1)
        wide = random_model(np.random.default_rng(5), [30, 70], density=0.4)
        with pytest.raises(EngineRefused, match="EngineConfig.accumulators") as refused:
            engine.load(wide)
        assert refused.value.error is EngineError.CAPACITY
        right(engine)
    with pytest.raises(LinkError, match="cannot be opened: No such file"):
        engine.status()


def test_requests_are_pipelined(cable):
    """More than one RUN is on its way before the first is answered, and no more than there is room
    for; who stops in between gets right answers afterwards."""
    asked = []

    def inputs():
        for number, values in enumerate(np.tile(INPUTS, (30, 1))):
            asked.append(number)
            yield values

    driver = Driver(SerialLink(cable.name))
    driver.load(MODEL)
    answers = driver.run(inputs())
    assert np.array_equal(next(answers), OUTPUTS[0])
    assert 5 < len(asked) < 120
    answers.close()
    assert np.array_equal(driver.run(INPUTS), OUTPUTS)


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_bytes(seed):
    """Dropped, doubled and flipped, both ways: a silent recovery each."""
    to, of = Noise(150, seed), Noise(150, seed + 10)
    with Cable(ENGINE, to, of) as cable:
        driver = Driver(SerialLink(cable.name))
        right(driver)
        assert np.array_equal(driver.run(np.tile(INPUTS, (5, 1))), np.tile(OUTPUTS, (5, 1)))
        assert to.faults > 5 and of.faults > 5


class Cut:
    """Lets so many bytes through; at the next the cable is pulled, or they are lost."""

    def __init__(self):
        self.left: int | None = None
        self.came = 0

    def __call__(self, data: bytes) -> bytes:
        if self.left is None:
            return data
        kept, self.left = data[: self.left], max(0, self.left - len(data))
        self.came += len(kept)
        return kept


@pytest.mark.parametrize("command", ["load", "run"])
def test_pulled_in_the_middle(command, impatient):
    """The packet is cut short; the engine ends it when the next connection begins."""
    cut = Cut()
    with Cable(ENGINE, cut) as cable:
        driver = Driver(SerialLink(cable.name))
        right(driver)
        cut.left = 100 if command == "load" else 30
        with pytest.raises(LinkError, match="no answer any more"):
            driver.load(dumps(OTHER)) if command == "load" else driver.run(INPUTS)
        assert cut.came > 20
        cut.left = None
        cable.pull()
        with pytest.raises(LinkError, match="cannot be opened: No such file.*pleach ports"):
            driver.load(MODEL)
        with pytest.raises(ModelError, match="call load first"):
            driver.run(INPUTS)
        cable.plug()
        right(driver)


def test_pulled_while_it_waits(cable):
    driver = Driver(SerialLink(cable.name))
    right(driver)
    cable.pull()
    with pytest.raises(LinkError, match="went away"):
        driver.status()
    cable.plug()
    # The board kept its network; a host that just came cannot know which.
    assert driver.status().model_held
    right(driver)


def test_two_drivers(cable):
    first, second = Driver(SerialLink(cable.name)), Driver(SerialLink(cable.name))
    first.load(MODEL)
    with pytest.raises(LinkError, match=r"board is in use by another program"):
        second.status()
    assert np.array_equal(first.run(INPUTS), OUTPUTS)
    first._link.close()
    assert second.adopt(MODEL).outputs == MODEL.outputs
    assert np.array_equal(second.run(INPUTS), OUTPUTS)
    right(second)


def test_the_wrong_baud_rate(impatient):
    with Cable(ENGINE, cycles=5) as cable:
        link = SerialLink(cable.name)
        with pytest.raises(LinkError, match="baud: .*baud rate"):
            link.connect()
        assert not link.connected


def test_nobody_there(impatient):
    start = time.monotonic()
    with Cable(ENGINE, lambda data: b"") as cable:
        with pytest.raises(LinkError, match="no answer at 1000000 baud: is the board on"):
            SerialLink(cable.name).connect()
    assert time.monotonic() - start < 10


def test_an_old_bitstream(cable, monkeypatch):
    monkeypatch.setattr(serial, "GATEWARE_VERSION", GATEWARE_VERSION + 1)
    message = rf"of version {GATEWARE_VERSION}, this Pleach speaks with version .* \(pleach build\)"
    with pytest.raises(LinkError, match=message):
        Driver(SerialLink(cable.name)).status()
    monkeypatch.undo()
    monkeypatch.setattr(serial, "LINK_VERSION", LINK_VERSION + 1)
    with pytest.raises(LinkError, match=rf"speaks version {LINK_VERSION} of the link's protocol"):
        Driver(SerialLink(cable.name)).status()


def test_command_run(tmp_path, capsys, monkeypatch):
    """`pleach run` on the simulated board, with the very engine of the other cases."""
    images = INPUTS / 2.0**MODEL.input_fraction
    labels = np.array([1, 1, 4, 0])
    file = tmp_path / "data.npz"
    np.savez(file, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    settings = [f"--set={k}={str(v).lower()}" for k, v in asdict(ENGINE).items() if k != "pes"]
    options = ["--simulated", "--pes", "1", "--dataset", str(file), *settings]
    monkeypatch.setattr(sys, "argv", ["pleach", "run", str(HERE / "model.pleach"), *options])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().out
    assert end.value.code == 0, printed
    assert "board: simulated, 1 PEs, 512 weights each" in printed
    assert "images a second over the link" in printed
    classes = ", ".join(map(str, OUTPUTS.argmax(axis=1)))
    assert f"classes: {classes}" in printed and "20 outputs compared" in printed
    monkeypatch.setattr(sys, "argv", ["pleach", "run", str(HERE / "model.pleach"), *options[1:]])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and "are of --simulated" in capsys.readouterr().err


def test_the_page_has_what_run_prints(cable, tmp_path, capsys, monkeypatch):
    """Its command, with a simulated board at the port; but for what takes time, word for word."""
    command, printed = transcript(PAGE, "pleach run")
    monkeypatch.chdir(tmp_path)
    Path("digits.pleach").write_bytes((HERE / "digits.pleach").read_bytes())
    monkeypatch.setattr(sys, "argv", command.replace("/dev/ttyUSB0", cable.name).split())
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out.replace(cable.name, "/dev/ttyUSB0")
    timed = r"[\d.,]+ s to load, [\d,]+ images a second"
    assert re.sub(timed, "", said) == re.sub(timed, "", printed)


def test_ports(monkeypatch, capsys):
    """A board's adapter comes first; what is no USB device is no board. The page has the table."""
    from serial.tools import list_ports
    from serial.tools.list_ports_common import ListPortInfo

    found = []
    for name, vid, pid, says in (
        ("ACM0", 0x2341, 0x43, "Arduino Uno"),
        ("S0", None, None, None),
        ("USB0", 0x0403, 0x6015, "FT231X USB UART"),
    ):
        port = ListPortInfo(f"/dev/tty{name}", skip_link_detection=True)
        port.vid, port.pid, port.description = vid, pid, says
        found.append(port)
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    listed = pleach.host.ports()
    assert [port.name for port in listed] == ["/dev/ttyUSB0", "/dev/ttyACM0"]
    command, printed = transcript(PAGE, "pleach ports")
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.strip("\n") == printed.strip("\n")
    assert "ULX3S" in listed[0].adapter and not listed[1].adapter
    with pytest.raises(LinkError, match="/dev/ttyUSB0 cannot be opened: No such file"):
        pleach.Engine.open()
    found.pop()
    with pytest.raises(LinkError, match="no board is plugged in; pleach ports"):
        pleach.Engine.open()
