"""Local times: the times that a cron expression gives, also where clocks move by half an hour (Lord Howe).

cronsim goes by whole hours and from one minute to the same of the next hour, which passes over times where an hour has
30 or 90 minutes. Offsets to UTC are multiples of a quarter of an hour, and clocks move at full quarters of it, so
within a quarter local time runs evenly.
"""

from __future__ import annotations

from cronsim import CronSim

QUARTER = 15


class LocalTimes(CronSim):
    """The times of an expression after an instant of a time zone, or of none."""

    def advance_hour(self) -> bool:
        if self.dt.hour in self.hours:
            return False
        self.tick(60 * (QUARTER - self.dt.minute % QUARTER) - self.dt.second)
        while self.dt.hour not in self.hours and self.dt.hour:
            self.tick(60 * QUARTER)
        return True

    def advance_minute(self) -> bool:
        if self.dt.minute in self.minutes:
            return False
        self.dt = self.dt.replace(second=0)
        while self.dt.minute not in self.minutes:
            rest = QUARTER - self.dt.minute % QUARTER
            ahead = (n for n in range(1, rest) if self.dt.minute + n in self.minutes)
            self.tick(60 * next(ahead, rest))
            if not self.dt.minute:
                break
        return True
