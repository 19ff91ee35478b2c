"""Annotations as other tools write them: readers and writers of COCO, CVAT, Label Studio, YOLO, VOC and others."""
