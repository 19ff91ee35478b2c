"""The procedural experts' algorithms: functions of arrays, on NumPy and OpenCV, without recipe or storage."""
