"""What a single picture's pixels say by themselves: hue, saturation, value; edges."""

from __future__ import annotations

import cv2
import numpy as np


def hsv(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 hue, saturation, value, each in 0..1, of an (H, W, 3) uint8 RGB picture. Hue is a circle."""
    converted = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    converted[..., 0] /= 360
    return converted


def gradient_edges(rgb: np.ndarray, sigma: float, full: float) -> np.ndarray:
    """(H, W) float32 in 0..1: the strongest channel's Scharr gradient after a Gaussian blur of `sigma` pixels.

    A gradient of `full` (in grey values of 0..1 a pixel) and more gives 1.
    """
    smooth = cv2.GaussianBlur(rgb.astype(np.float32) / 255, (0, 0), sigma) if sigma else rgb.astype(np.float32) / 255
    dx, dy = (cv2.Scharr(smooth, cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1)))
    red, green, blue = cv2.split(dx * dx + dy * dy)
    return np.minimum(np.sqrt(cv2.max(red, cv2.max(green, blue))) / np.float32(full), 1)


def sobel_edges(rgb: np.ndarray, sigma: float, full: float) -> np.ndarray:
    """(H, W) float32 in 0..1: the length of the Sobel gradient of the grey picture after a blur of `sigma` pixels.

    A gradient of `full` (in grey values of 0..1 a pixel) and more gives 1.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    if sigma:
        grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order) / 8 for order in ((1, 0), (0, 1)))
    return np.minimum(cv2.magnitude(dx, dy) / np.float32(full), 1)


def canny_edges(rgb: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W) float32, 1 on thin edges (Canny 1986), thresholds at 0.8 and 1.6 times the mean gradient."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if sigma:
        grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    dx, dy = (cv2.Sobel(grey, cv2.CV_16S, *order) for order in ((1, 0), (0, 1)))
    mean = float(np.hypot(dx.astype(np.float32), dy).mean())
    return cv2.Canny(dx, dy, 0.8 * mean, 1.6 * mean + 1, L2gradient=True).astype(np.float32) / 255
