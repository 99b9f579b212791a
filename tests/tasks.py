"""What workers of tests do, in a module that imports nothing slow."""

import os
import time


def square(x: float) -> float:
    return x * x


def fall_asleep() -> None:
    time.sleep(3600)


def die() -> None:
    os._exit(7)


def divide_by_zero() -> float:
    return 1 / 0
