"""What the terms of a report mean, for readers who meet them for the first time."""

GLOSSARY: dict[str, str] = {
    "account": "explained value = map + biases + stabiliser + lost. It closes for every sample to rounding, or the run "
    "warns.",
    "biases": "relevance that the network's biases keep: it belongs to no input and is in no map.",
    "classified correctly": "only samples whose predicted class is that of their label are in a composite.",
    "composite": "the mean relevance map of the samples of a class, each map divided by its own size first (see "
    "normalisation in the caption).",
    "contrast": "the logit of the explained class minus that of the runner-up, since single logits have an arbitrary "
    "offset.",
    "event": "a run of samples of one class without a gap in time. Samples within an event resemble each other; events "
    "count as independent.",
    "lost": "relevance that no neuron could take on, or that lies on cells without data.",
    "n, n eff": "samples in a composite, and the number of independent samples with the same variance of the mean.",
    "relevance": "the part of the explained value that a rule assigns to an input cell: its sum over the map, with the "
    "other terms of the account, is the explained value. It says what this network used, not what causes what.",
    "share of a region": "the part of the |relevance| of the mean map that lies inside. Opposite signs of single "
    "samples cancel in a mean map, so this is not the mean of the shares of single samples.",
    "area share": "the part of the valid area that the region covers: the share that relevance of even density would "
    "have.",
    "stabiliser": "relevance that the small number added to denominators by the epsilon rule absorbs.",
}
