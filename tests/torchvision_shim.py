"""Lets torchvision's Python code be imported beside a torch that its binary operators do not fit: they are declared."""

import torch

_OUT = "SymInt pooled_height, SymInt pooled_width"
_BACK = "SymInt batch_size, SymInt channels, SymInt height, SymInt width"
_CONV = (
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, "
    "SymInt groups, SymInt offset_groups, bool use_mask"
)
_IN = "Tensor input, Tensor rois, float spatial_scale"
_GRAD = "Tensor grad, Tensor rois"

library = torch.library.Library("torchvision", "DEF")
for schema in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    f"roi_align({_IN}, {_OUT}, int sampling_ratio, bool aligned) -> Tensor",
    f"qroi_align({_IN}, {_OUT}, int sampling_ratio, bool aligned) -> Tensor",
    f"_roi_align_backward({_GRAD}, float spatial_scale, {_OUT}, {_BACK}, int sampling_ratio, bool aligned) -> Tensor",
    f"ps_roi_align({_IN}, {_OUT}, int sampling_ratio) -> (Tensor, Tensor)",
    f"_ps_roi_align_backward({_GRAD}, Tensor m, float spatial_scale, {_OUT}, int sampling_ratio, {_BACK}) -> Tensor",
    f"roi_pool({_IN}, {_OUT}) -> (Tensor, Tensor)",
    f"_roi_pool_backward({_GRAD}, Tensor argmax, float spatial_scale, {_OUT}, {_BACK}) -> Tensor",
    f"ps_roi_pool({_IN}, {_OUT}) -> (Tensor, Tensor)",
    f"_ps_roi_pool_backward({_GRAD}, Tensor m, float spatial_scale, {_OUT}, {_BACK}) -> Tensor",
    f"deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, {_CONV}) -> Tensor",
    "_deform_conv2d_backward(Tensor grad, Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    f"{_CONV}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
):
    library.define(schema)
