"""The samples in structured text, compiled by MATIEC and gcc, as a PLC that a test can scan.

MATIEC is another's compiler for IEC 61131-3: what it takes is structured text, and what it makes runs.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.gateways import structured_text
from edge.gateways.modbus.layout import COMMAND_SIZE, STATUS_SIZE

ST = Path(__file__).parents[2] / "docs/gateways/st"
BUILD = (
    "apt-get install bison flex autoconf automake; git clone https://github.com/beremiz/matiec; "
    "autoreconf -i; ./configure; make"
)
REASON = f"iec2c is not in PATH ({BUILD})"
SHIM = """
#include "Config0.c"
#include "Res0.c"
TIME __CURRENT_TIME;
void plc_start(void) { __CURRENT_TIME.tv_sec = 0; __CURRENT_TIME.tv_nsec = 0; config_init__(); }
void plc_scan(long long now_ns, const unsigned short *words, int is_fresh, int trigger, int at_gate, int encoder,
              int recipe, int reset, int stop, int empty) {
    __CURRENT_TIME.tv_sec = now_ns / 1000000000LL;
    __CURRENT_TIME.tv_nsec = now_ns % 1000000000LL;
    if (is_fresh) CONFIG0__READCOUNT.value += 1;
    for (int i = 0; i < @STATUS@; i++) CONFIG0__STATUSWORDS.value.table[i] = words[i];
    CONFIG0__PHOTOEYECAMERA.value = trigger;
    CONFIG0__PHOTOEYEGATE.value = at_gate;
    CONFIG0__ENCODERCOUNT.value = encoder;
    CONFIG0__RECIPEWANTED.value = recipe;
    CONFIG0__BUTTONRESET.value = reset;
    CONFIG0__BUTTONSTOP.value = stop;
    CONFIG0__STRETCHISEMPTY.value = empty;
    config_run__(0);
}
void plc_written(unsigned short *words) { for (int i = 0; i < @COMMAND@; i++) words[i] = CONFIG0__COMMANDWORDS.value.table[i]; }
int plc_gate(void) { return CONFIG0__GATEOPEN.value; }
int plc_horn(void) { return CONFIG0__HORN.value; }
@GETTERS@
"""
OUTPUTS = (
    "Decided", "DecidedNumber", "Pass", "Online", "Ready", "Alarm", "Results", "Passed", "Gaps", "Torn", "Sessions", "Overruns",
    "MissedTriggers", "LateTriggers", "Triggered", "PartNumber", "RecipeActive",
)  # fmt: skip
GATE_OUTPUTS = ("Unexpected", "Vanished", "Overfull")


def sources() -> str:
    """All samples as one file, as MATIEC takes them.

    It knows the standard's second edition: no values in enumerations, which nothing here uses, and no lengths of strings in
    structures.
    """
    program = (ST / "PRG_Modbus.st").read_text()
    shared = re.search(r"VAR_EXTERNAL(.*?)END_VAR", program, re.DOTALL)
    assert shared is not None
    blocks = [(ST / name).read_text() for name in ("Linegate_Registers.st", "FB_Linegate.st", "FB_LinegateGate.st")]
    types = structured_text.structures().replace("STRING[32]", "STRING")
    configuration = (
        f"CONFIGURATION Config0\nVAR_GLOBAL{shared[1]}END_VAR\nRESOURCE Res0 ON PLC\n"
        "TASK Main(INTERVAL := T#10ms, PRIORITY := 0);\nPROGRAM Inst0 WITH Main : PRG_Modbus;\n"
        "END_RESOURCE\nEND_CONFIGURATION\n"
    )
    return "\n".join([types, *blocks, program, configuration])


def compiled(folder: Path) -> Path:
    """Compile the samples; the library's path. Skips without the compilers."""
    compiler = shutil.which("iec2c")
    if compiler is None:
        pytest.skip(REASON)
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed (apt-get install gcc)")
    library = Path(os.environ.get("MATIEC_LIB", "") or Path(compiler).resolve().parent / "lib")
    (folder / "all.st").write_text(sources())
    made = subprocess.run(
        [compiler, "-I", str(library), "-T", str(folder), "all.st"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0 and (folder / "POUS.c").exists(), made.stdout + made.stderr
    getters = [f"long plc_{name}(void) {{ return RES0__INST0.LINEGATE.{name.upper()}.value; }}" for name in OUTPUTS]
    getters += [f"long plc_{name}(void) {{ return RES0__INST0.GATE.{name.upper()}.value; }}" for name in GATE_OUTPUTS]
    shim = SHIM.replace("@GETTERS@", "\n".join(getters))
    shim = shim.replace("@STATUS@", str(STATUS_SIZE)).replace("@COMMAND@", str(COMMAND_SIZE))
    (folder / "shim.c").write_text(shim)
    command = [
        "gcc",
        "-w",
        "-O1",
        "-fPIC",
        "-shared",
        "-I",
        str(library / "C"),
        "-I",
        str(folder),
        "-o",
        "plc.so",
        "shim.c",
    ]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "plc.so"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled samples, made once."""
    return compiled(tmp_path_factory.mktemp("st"))


class CompiledPlc:
    """One PLC at power-on."""

    def __init__(self, library: Path) -> None:
        self._plc = ctypes.CDLL(str(library))
        self._plc.plc_scan.argtypes = [ctypes.c_longlong, ctypes.POINTER(ctypes.c_ushort), *[ctypes.c_int] * 8]
        for name in OUTPUTS + GATE_OUTPUTS:
            getattr(self._plc, f"plc_{name}").restype = ctypes.c_long
        self._plc.plc_start()

    def scan(
        self,
        now_ns: int,
        words: Sequence[int],
        *,
        fresh: bool = True,
        trigger: bool = False,
        at_gate: bool = False,
        encoder: int = 0,
        recipe: int = 0,
        reset: bool = False,
        stop: bool = False,
        empty: bool = False,
    ) -> list[int]:
        """One scan; the registers that it writes."""
        block = (ctypes.c_ushort * STATUS_SIZE)(*words)
        self._plc.plc_scan(now_ns, block, fresh, trigger, at_gate, encoder, recipe, reset, stop, empty)
        written = (ctypes.c_ushort * COMMAND_SIZE)()
        self._plc.plc_written(written)
        return list(written)

    def output(self, name: str) -> int:
        """An output of the function blocks."""
        return int(getattr(self._plc, f"plc_{name}")())

    @property
    def gate_is_open(self) -> bool:
        """What moves the gate."""
        return bool(self._plc.plc_gate())

    @property
    def horn(self) -> bool:
        """What calls somebody."""
        return bool(self._plc.plc_horn())
