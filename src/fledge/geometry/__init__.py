"""Rotated-box mathematics: boxes, conventions, overlap, suppression, Gaussians, deltas and anchors."""

from fledge.geometry.anchors import AnchorGrid
from fledge.geometry.boxes import areas, boxes_from_quads, canonicalize, corners, hulls
from fledge.geometry.coder import decode, encode
from fledge.geometry.convert import CONVENTIONS
from fledge.geometry.gaussian import box_to_gaussian, kl_divergence
from fledge.geometry.iou import rotated_iou, rotated_iou_pairs
from fledge.geometry.nms import rotated_nms

__all__ = [
    "CONVENTIONS",
    "AnchorGrid",
    "areas",
    "box_to_gaussian",
    "boxes_from_quads",
    "canonicalize",
    "corners",
    "decode",
    "encode",
    "hulls",
    "kl_divergence",
    "rotated_iou",
    "rotated_iou_pairs",
    "rotated_nms",
]
