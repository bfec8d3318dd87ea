"""Functions and programs that misbehave, each in its own way; copied into the projects of tests."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from ccdflow.recipes.core.image import Image
from ccdflow.recipes.core.recipe import Output, Result


def good(inputs, parameters):
    plane = np.ones((4, 4), np.float32)
    return Result({"made": Output(Image(plane, plane.copy(), np.zeros((4, 4), np.uint16), "adu"))})


def talks(inputs, parameters):
    print("on standard output")
    sys.stderr.write("on standard error\n")
    logging.getLogger("mine").info("in the log")
    os.write(1, b"\xff\xfe not UTF-8 \x00\x1b[31mred\x1b[0m\n")
    return good(inputs, parameters)


def floods(inputs, parameters):
    os.write(1, b"the beginning\n")
    for _ in range(300):
        os.write(1, b"x" * 10_000)
    os.write(2, b"\nthe end\n")
    return good(inputs, parameters)


def leaves_a_thread(inputs, parameters):
    threading.Thread(target=time.sleep, args=(300,)).start()
    return good(inputs, parameters)


def leaves_a_grandchild(inputs, parameters):
    subprocess.Popen(["sleep", "300"])
    return good(inputs, parameters)


def exits(inputs, parameters):
    sys.exit(3)


def exits_with_words(inputs, parameters):
    sys.exit("no stars\nin sight")


def interrupts(inputs, parameters):
    raise KeyboardInterrupt


def raises(inputs, parameters):
    raise KeyError("flux")


def names_a_file(inputs, parameters):
    raise ValueError("M\udce931\0.fits can't be read")


def vanishes(inputs, parameters):
    os._exit(0)


def crashes(inputs, parameters):
    os.kill(os.getpid(), signal.SIGSEGV)


def is_killed(inputs, parameters):
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends(inputs, parameters):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.01)


def waits(inputs, parameters):
    time.sleep(300)


def needs_too_much(inputs, parameters):
    np.ones(10**16)


def gives_a_number(inputs, parameters):
    return 3


def gives_what_cannot_be_sent(inputs, parameters):
    result = good(inputs, parameters)
    return Result(dict(result.outputs), warnings=[lambda: 0])
