"""Rotated-box mathematics: boxes, conventions, overlap, suppression, Gaussians, deltas and anchors."""

from fledge.geometry.align import rotated_roi_align
from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.boxes import areas, boxes_from_quads, canonicalize, corners, hulls
from fledge.geometry.coder import decode, encode
from fledge.geometry.convert import CONVENTIONS
from fledge.geometry.deformable import deformable_sample, rotated_sampling_locations, sampling_locations
from fledge.geometry.gaussian import (
    box_to_gaussian,
    kalman_iou,
    kl_divergence,
    squared_mahalanobis,
    squared_wasserstein,
)
from fledge.geometry.iou import rotated_iou, rotated_iou_pairs
from fledge.geometry.matrix_nms import rotated_matrix_nms
from fledge.geometry.nms import rotated_nms
from fledge.geometry.points import min_area_boxes, points_in_boxes
from fledge.geometry.quads import quad_iou, quad_iou_pairs
from fledge.geometry.soft_nms import rotated_soft_nms

__all__ = [
    "CONVENTIONS",
    "AnchorGrid",
    "areas",
    "box_to_gaussian",
    "boxes_from_quads",
    "canonicalize",
    "corners",
    "decode",
    "deformable_sample",
    "encode",
    "hulls",
    "kalman_iou",
    "kl_divergence",
    "min_area_boxes",
    "points_in_boxes",
    "quad_iou",
    "quad_iou_pairs",
    "rotated_iou",
    "rotated_iou_pairs",
    "rotated_matrix_nms",
    "rotated_nms",
    "rotated_roi_align",
    "rotated_sampling_locations",
    "rotated_soft_nms",
    "sampling_locations",
    "squared_mahalanobis",
    "squared_wasserstein",
]
