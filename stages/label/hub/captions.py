"""Captions: what a network of pictures and words says of a picture when it is asked nothing (Li et al., BLIP, 2022;
Wang et al., GIT, 2022).

The library's pipeline wants a text for each picture, and an empty one is a question to some of these networks.
"""

from __future__ import annotations

from typing import Any

from hyperloom.stages.label.hub.loading import Directory


class Captions:
    """A picture -> its caption, as the library's pipelines answer. Always the likeliest word: nothing is drawn."""

    def __init__(self, home: Directory):
        self._home, self._processor = home, home.part("AutoProcessor")
        self._model = home.model("AutoModelForImageTextToText")

    def __call__(self, picture: Any, **options: Any) -> list[dict[str, str]]:
        settings = {key: value for key, value in options.items() if key != "return_full_text"}
        pixels = self._home.tensors(self._processor.image_processor(images=picture, return_tensors="pt"))
        with self._home.torch.inference_mode():
            tokens = self._model.generate(pixel_values=pixels["pixel_values"], do_sample=False, **settings)
        (text,) = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [{"generated_text": text}]
