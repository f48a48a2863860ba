"""Files that no runtime may see, each the change of one that is well."""

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

SIZE = 64


def well(nodes=None, weights=(), inputs=None, **model):
    """Return a network of one convolution, or of ``nodes`` from "pixels" to "out"."""
    if nodes is None:
        nodes = [helper.make_node("Conv", ["pixels", "w"], ["out"], pads=[1, 1, 1, 1])]
        weights = [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")]
    given = inputs or [value("pixels", (1, 1, SIZE, SIZE))]
    graph = helper.make_graph(nodes, "network", given, [value("out", (1, 1, SIZE, SIZE))], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **model)


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def numbers(name, *values, kind=np.int64):
    return numpy_helper.from_array(np.array(values, kind), name)


def node(kind, inputs=("pixels",), outputs=("out",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), **attributes)


def changed(change):
    model = well()
    change(model)
    return model


def _external(location):
    def change(model):
        (tensor,) = model.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return changed(change)


def _named_only(model):
    """The list of places, without the word that there is one."""
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")


def _in_constant(location):
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=(1,), data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    constant = node("Constant", (), ("c",), value=tensor)
    return well([constant, node("Add", ("pixels", "c"))])


def _deep(levels):
    inner = helper.make_graph([node("Identity", ("pixels",), ("x",))], "g", [], [value("x", None)])
    for _ in range(levels):
        branch = helper.make_node("If", ["yes"], ["x"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([branch], "g", [], [value("x", None)])
    return well(
        [helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)],
        [numbers("yes", True, kind=bool)],
    )


def _loop():
    body = helper.make_graph(
        [node("Identity", ("go",), ("on",)), node("Identity", ("x",), ("y",))],
        "body",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("x", None)],
        [value("on", (), TensorProto.BOOL), value("y", None)],
    )
    forever = [numbers("n", 2**62), numbers("yes", True, kind=bool)]
    return well([helper.make_node("Loop", ["n", "yes", "pixels"], ["out"], body=body)], forever)


def _function():
    call = node("Twice")
    call.domain = "mine"
    model = well([call])
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.functions.append(
        helper.make_function(
            "mine", "Twice", ["x"], ["y"], [node("Add", ("x", "x"), ("y",))], [helper.make_opsetid("", 17)]
        )
    )
    return model


def _domain(domain, kind="Conv"):
    def change(model):
        model.graph.node[0].domain = domain
        model.graph.node[0].op_type = kind
        model.opset_import.append(helper.make_opsetid(domain, 1))

    return changed(change)


def _truncated_weights(model):
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def _endless_weights(model):
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**40, 2**20])


def _negative(model):
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([-1, -1, 3, 3])


def _text(model):
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, (1,), [b"/etc/passwd"]))


def _reference(model):
    model.graph.node[0].attribute.append(AttributeProto(name="group", type=AttributeProto.INT, ref_attr_name="n"))


def _sparse(model):
    model.graph.sparse_initializer.add()


def _training(model):
    model.training_info.add()


def _cycle():
    return well([node("Add", ("pixels", "b"), ("a",)), node("Relu", ("a",), ("b",)), node("Relu", ("b",))])


def _twice():
    return well([node("Relu", ("pixels",), ("a",)), node("Relu", ("pixels",), ("a",)), node("Relu", ("a",))])


def _many_empty_nodes():
    """Two bytes of a file for each: in memory a thousand times as much."""
    body = b"\x0a\x00" * (9 << 17)
    graph = b"\x3a" + _length(len(body)) + body
    return b"\x08\x08" + graph


def _nested():
    """Graphs within graphs, deeper than any reader goes."""
    content = b""
    for _ in range(300):
        content = b"\x32" + _length(len(content)) + content  # AttributeProto.g
        content = b"\x2a" + _length(len(content)) + content  # NodeProto.attribute
        content = b"\x0a" + _length(len(content)) + content  # GraphProto.node
    return b"\x08\x08\x3a" + _length(len(content)) + content


def _length(size):
    out = b""
    while size > 0x7F:
        out, size = out + bytes([size & 0x7F | 0x80]), size >> 7
    return out + bytes([size])


def _grown():
    grown = [node("ConstantOfShape", ("s",), ("big",)), node("Add", ("pixels", "big"))]
    return well(grown, [numbers("s", 1 << 14, 1 << 14, 64, 64)])


def _grown_by_pixels():
    """Reserves as much as the pixels say."""
    nodes = [
        node("ReduceSum", ("pixels",), ("sum",), keepdims=0),
        node("Cast", ("sum",), ("n",), to=TensorProto.INT64),
        node("Range", ("zero", "n", "one"), ("big",)),
        node("Cast", ("big",), ("f",), to=TensorProto.FLOAT),
        node("ReduceSum", ("f",), ("g",), keepdims=0),
        node("Add", ("pixels", "g")),
    ]
    return well(nodes, [numpy_helper.from_array(np.int64(0), "zero"), numpy_helper.from_array(np.int64(1), "one")])


_FOUND = (node("NonZero", outputs=("places",)), node("Cast", ("places",), ("0",), to=TensorProto.FLOAT))


def _found(*nodes):
    """Begins with the places of pixels, of which nobody knows the number; ends with the largest of what is made of."""
    return [*_FOUND, *nodes, node("ReduceMax", ("last",), ("most",), keepdims=0), node("Add", ("pixels", "most"))]


def _each_with_each():
    return well(_found(node("Transpose", ("0",), ("turned",)), node("MatMul", ("turned", "0"), ("last",))))


def _doubled():
    """Twice as much with each of 30 operators."""
    doubled = [node("Concat", (f"{n}", f"{n}"), (f"{n + 1}",), axis=1) for n in range(30)]
    return well(_found(*doubled, node("Relu", ("30",), ("last",))))


def _found_again():
    """Places of places of places: each time twice as many numbers."""
    nodes = []
    for number in range(0, 60, 2):
        nodes.append(node("NonZero", (f"{number}",), (f"{number + 1}",)))
        nodes.append(node("Cast", (f"{number + 1}",), (f"{number + 2}",), to=TensorProto.FLOAT))
    return well(_found(*nodes, node("Relu", ("60",), ("last",))))


def _slope_across():
    """ONNX says that a result is as large as what it is made of; ONNX Runtime makes each with each of it."""
    nodes = [
        node("Reshape", ("pixels", "down"), ("x",)),
        node("Reshape", ("pixels", "across"), ("slope",)),
        node("PRelu", ("x", "slope"), ("last",)),
        *_found()[-2:],
    ]
    return well(nodes, [numbers("down", -1, 1), numbers("across", 1, -1)])


def _places_of_a_gigabyte():
    """Four whole numbers of 64 bits for each number: 8 GB."""
    nodes = [
        node("Tile", ("pixels", "times"), ("large",)),
        node("NonZero", ("large",), ("places",)),
        node("Cast", ("places",), ("last",), to=TensorProto.FLOAT),
        *_found()[-2:],
    ]
    return well(nodes, [numbers("times", 1, 1, 256, 256)])


def _in_a_branch():
    """What is too large lies within one of two graphs."""
    names = ("then", "else")
    branches = [
        helper.make_graph(
            [
                node("ConstantOfShape", ("s",), (f"{name} big",)),
                node("ReduceMax", (f"{name} big",), (f"{name} most",), keepdims=0),
            ],
            name,
            [],
            [value(f"{name} most", ())],
            [numbers("s", *((1 << 20, 1 << 20) if name == "then" else (1, 1)))],
        )
        for name in names
    ]
    nodes = [
        node("ReduceMax", outputs=("sum",), keepdims=0),
        node("Cast", ("sum",), ("is so",), to=TensorProto.BOOL),
        node("If", ("is so",), ("most",), then_branch=branches[0], else_branch=branches[1]),
        node("Add", ("pixels", "most")),
    ]
    return well(nodes)


def _resized():
    return well([node("Resize", ("pixels", "", "s"), mode="nearest")], [numbers("s", 1, 1, 1e6, 1e6, kind=np.float32)])


def _claimed():
    """What it says of its results is less than they are."""
    model = _resized()
    model.graph.value_info.append(value("out", (1, 1, 2, 2)))
    return model


def files():
    """Return (content, what is said of it) by name."""
    made = {
        "an operator of another domain": (
            _domain("com.microsoft", "Inverse"),
            "the operator 'Inverse' of 'com.microsoft'",
        ),
        "a standard name of another domain": (_domain("evil"), "the operator 'Conv' of 'evil'"),
        "an operator that nobody knows": (well([node("RunShell")]), "the operator 'RunShell'"),
        "a Python operator": (_domain("ai.onnx.contrib", "PyOp"), "the operator 'PyOp' of 'ai.onnx.contrib'"),
        "a function of its own": (_function(), "functions of its own: 'Twice'"),
        "a program for training": (changed(_training), "a program for training"),
        "an endless loop": (_loop(), "the operator 'Loop'"),
        "chance": (well([node("RandomNormalLike")]), "the operator 'RandomNormalLike'"),
        "a draw": (well([node("Bernoulli")]), "the operator 'Bernoulli'"),
        "dropout while it learns": (
            well(
                [node("Dropout", ("pixels", "r", "t"))],
                [numpy_helper.from_array(np.float32(0.5), "r"), numpy_helper.from_array(np.bool_(1), "t")],
            ),
            "the operator 'Dropout'",
        ),
        "a picture decoder": (well([node("ImageDecoder")]), "the operator 'ImageDecoder'"),
        "text": (changed(_text), "the type STRING for 't'"),
        "weights in a file outside": (_external("../../etc/passwd"), "weights in another file for 'w'"),
        "weights in a file by its path": (_external("/etc/passwd"), "weights in another file for 'w'"),
        "weights in a file beside it": (_external("weights.bin"), "weights in another file for 'w'"),
        "a place without the word that there is one": (changed(_named_only), "weights in another file for 'w'"),
        "a constant in a file outside": (_in_constant("/etc/passwd"), "weights in another file for 'c'"),
        "weights that end early": (
            changed(_truncated_weights),
            "32 bytes or numbers for 'w', whose shape 1 x 1 x 3 x 3 needs 36",
        ),
        "weights without an end": (changed(_endless_weights), "36 bytes or numbers for 'w'"),
        "weights of less than nothing": (changed(_negative), "a part of a tensor, or less than nothing, for 'w'"),
        "sparse weights": (changed(_sparse), "sparse weights"),
        "a value from nowhere": (changed(_reference), "no plain value for 'Conv'.'group'"),
        "graphs within graphs": (_deep(8), "graphs within graphs"),
        "graphs too deep to read": (_nested(), "cut off or damaged"),
        "a million nodes of nothing": (
            _many_empty_nodes(),
            "more than 32 MB or 1048576 fields that are no raw data of weights",
        ),
        "a tensor of a terabyte": (_grown(), "a result of 1099511627776 numbers, 'big'"),
        "as much as the pixels say": (_grown_by_pixels(), "Range whose size is not known beforehand"),
        "each place with each": (_each_with_each(), "MatMul whose size is not known beforehand"),
        "a slope across": (_slope_across(), "PRelu whose size is not known beforehand"),
        "places of a gigabyte": (_places_of_a_gigabyte(), "NonZero whose size is not known beforehand"),
        "twice as much again and again": (_doubled(), "Concat whose size is not known beforehand"),
        "places of places of places": (_found_again(), "NonZero whose size is not known beforehand"),
        "a tensor of a terabyte in a branch": (_in_a_branch(), "a result of 1099511627776 numbers, 'then big'"),
        "a picture of a trillion pixels": (_resized(), "a result of 4096000000000000 numbers, 'out'"),
        "a claim about its size": (_claimed(), "a result of 4096000000000000 numbers, 'out'"),
        "a circle": (_cycle(), "does not fit together"),
        "one name twice": (_twice(), "does not fit together"),
        "an input that nobody made": (well([node("Add", ("pixels", "nowhere"))]), "does not fit together"),
        "two inputs": (
            well([node("Add", ("pixels", "more"))], inputs=[value("pixels", (1, 1, SIZE, SIZE)), value("more", (1,))]),
            "2 inputs, expected one",
        ),
        "an input of text": (
            well([node("Identity")], inputs=[value("pixels", (1, 1, SIZE, SIZE), TensorProto.STRING)]),
            "an input of STRING, expected FLOAT",
        ),
        "a million images at once": (
            well([node("Relu")], inputs=[value("pixels", (10**6, 1, SIZE, SIZE))]),
            "an input of 1000000 images",
        ),
        "names that are no text": (
            well().SerializeToString().replace(b"pixels", b"pix\xeels"),
            "names that are no text",
        ),
        "no graph": (onnx.ModelProto(ir_version=8), "none"),
        "no version of the operators": (
            changed(lambda model: model.ClearField("opset_import")),
            "no version of the operators",
        ),
        "half a file": (well().SerializeToString()[:-20], "cut off or damaged"),
        "a pickle": (b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.", "cut off or damaged"),
        "nothing": (b"", "none"),
    }
    return {
        name: (model if isinstance(model, bytes) else model.SerializeToString(), text)
        for name, (model, text) in made.items()
    }
