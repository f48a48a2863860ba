"""The operators that a TorchScript file may use: they give tensors, numbers and lists, and touch nothing else.

Not here, and so refused: files (``save``, ``from_file``), text for people (``print``), Python, threads, memory that
nobody wrote (``empty``), chance (``rand``, ``manual_seed``), and whatever torch learns after this was written.
"""

from __future__ import annotations

_OPERATORS = """
    Bool Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __getitem__ __is__
    __isnot__ __not__ __or__ __xor__ _convolution _convolution_mode abs adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool2d add add_ addbmm addcmul addmm alpha_dropout amax amin append arange
    argmax argmin as_tensor avg_pool1d avg_pool2d avg_pool3d baddbmm batch_norm bilinear bitwise_and bitwise_not
    bitwise_or bmm broadcast_tensors cat ceil channel_shuffle chunk clamp clamp_ clamp_max clamp_min clone concat
    constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d cos cumsum
    detach detach_ device diagonal dim div div_ dropout dropout_ einsum elu elu_ embedding eq erf exp expand
    expand_as feature_dropout feature_dropout_ flatten flip floor floor_divide floordiv format full full_like
    gather ge gelu glu grid_sampler group_norm gt hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_
    im2col index index_select instance_norm is_floating_point item layer_norm le leaky_relu leaky_relu_ len lerp
    linear log log1p log_softmax logical_and logical_not logical_or logsumexp lt masked_fill masked_fill_ matmul max
    max_pool1d max_pool2d max_pool3d maximum mean meshgrid min minimum mish mm mul mul_ narrow ne neg norm numel
    ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad2d relu relu6
    relu6_ relu_ remainder repeat replication_pad2d reshape roll round rsqrt rsub scaled_dot_product_attention
    select selu selu_ sigmoid sigmoid_ silu silu_ sin size slice softmax softplus sort split split_with_sizes sqrt
    square squeeze squeeze_ stack std sub sub_ sum swapaxes t tan tanh tanh_ tensor tensor_split threshold
    threshold_ tile to topk transpose tril triu type_as unbind unflatten unfold unsqueeze unsqueeze_
    upsample_bicubic2d upsample_bilinear2d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d var view view_as where zeros zeros_like
"""

_PRIMITIVES = """
    Constant DictConstruct GetAttr If ListConstruct ListUnpack Loop NumToTensor RaiseException TupleConstruct
    TupleIndex TupleSlice TupleUnpack Uninitialized device dtype isinstance max min requires_grad unchecked_cast
    unchecked_unwrap_optional
"""

_WORDS = "annotate bool float getattr int isinstance len range str unchecked_cast uninitialized"

OPERATORS = frozenset(_OPERATORS.split())
PRIMITIVES = frozenset(_PRIMITIVES.split())
KINDS = frozenset({f"aten::{name}" for name in OPERATORS} | {f"prim::{name}" for name in PRIMITIVES})  # of nodes
WORDS = frozenset(_WORDS.split())  # of the language itself, which look like calls
