"""Published networks that need code of their own beside their weights. Written from the papers; weights not included.

A `torch.nn.Module` here takes (N, 3, H, W) float32 and returns a tensor (N, C, h, w), its parameters named as in the
published files; the expert `torch` finds it by `net:`. What decodes a network's special output is a decoder plug-in.
"""
