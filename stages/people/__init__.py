"""People correct what experts say: samples out to Label Studio, CVAT or COCO, what they changed back in."""
