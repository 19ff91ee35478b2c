"""The procedural experts' algorithms: functions of arrays, on NumPy and OpenCV, that know of no recipe and no storage."""
