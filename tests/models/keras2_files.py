"""Files as Keras 2 wrote them, made of networks of Keras 3."""

import json

import h5py


def as_keras2(config, modules=False):
    """A configuration of Keras 3 in the words of Keras 2; with ``modules`` in those of 2.12 and later."""
    if isinstance(config, list):
        return [as_keras2(item, modules) for item in config]
    if not isinstance(config, dict):
        return config
    left_out = () if modules else ("module", "registered_name")
    config = {key: as_keras2(value, modules) for key, value in config.items() if key not in left_out}
    own = config.get("config")
    if isinstance(own, dict):
        if config["class_name"] == "DTypePolicy":
            return {"class_name": "Policy", "config": {"name": "float32"}}
        if "batch_shape" in own:
            own["batch_input_shape"] = own.pop("batch_shape")
        for key, value in own.items():
            if key.endswith("_initializer"):
                value["config"] = {"dtype": "float32", **value["config"]}
        if config["class_name"] == "BatchNormalization":
            own["axis"] = [3]
            for key in ("synchronized", "renorm", "renorm_clipping", "renorm_momentum"):
                own.pop(key, None)
        if config["class_name"] in ("LSTM", "GRU"):
            own.update(time_major=False, implementation=2)
        if config["class_name"] == "Sequential":
            first, *layers = own["layers"]
            layers[0]["config"]["batch_input_shape"] = first["config"]["batch_input_shape"]
            own["layers"] = layers
    return config


def aged(network, path):
    """Save a network as Keras 2 would have, with a loss nobody else knows."""
    network.save(path)
    with h5py.File(path, "r+") as file:
        config = as_keras2(json.loads(file.attrs["model_config"]))
        for layer in config["config"]["layers"]:
            for node in layer.get("inbound_nodes", []):
                assert isinstance(node, dict)
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
        loss = {"class_name": "mean_exp_weighted", "config": {}}
        file.attrs["training_config"] = json.dumps({"loss": loss, "optimizer_config": {"class_name": "Nadamax"}})
    return path
