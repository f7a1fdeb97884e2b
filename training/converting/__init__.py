"""What label tools and public sets export, as `images/`, `labels/` and `classes.yaml`."""

from __future__ import annotations

from .export import Export, Labelled, write_export

CONVERTERS = {
    'coco': 'training.converting.coco:coco',
    'coco_panoptic': 'training.converting.coco:coco_panoptic',
    'cvat': 'training.converting.cvat:cvat',
    'label_studio': 'training.converting.label_studio:label_studio',
    'labelme': 'training.converting.labelme:labelme',
    'mapillary': 'training.converting.mapillary:mapillary',
}
"""Kind of export to the function that reads its folder."""

__all__ = ['CONVERTERS', 'Export', 'Labelled', 'write_export']
