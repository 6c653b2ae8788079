"""Options of the built-in architectures, as ``train`` takes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Activation = Literal["relu", "leaky_relu", "elu", "softplus", "tanh"]
Longitude = Literal["zeros", "cyclic"]


class Mlp(BaseModel):
    """Fully connected network on the flattened maps: classes, a value, or images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [8, 8], description="Neurons of each hidden layer; [] gives a linear model."
    )
    activation: Activation = Field("relu", description="Activation after each hidden layer.")


class Cnn(BaseModel):
    """Convolutions with pooling, then dense layers: classes or a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filters: list[Annotated[int, Field(ge=1)]] = Field(
        [16, 32], min_length=1, description="Filters of each convolution; each is followed by activation and pooling."
    )
    kernel: int = Field(3, ge=1, description="Side of the square kernels, odd.")
    pool: Literal["avg", "max"] = Field("avg", description="Pooling; avg is easier to explain.")
    pool_size: int = Field(2, ge=1, description="Side of the pooling; 1 leaves it out.")
    hidden: list[Annotated[int, Field(ge=1)]] = Field(
        [16], description="Neurons of the dense layers after the convolutions."
    )
    head: Literal["flatten", "global"] = Field(
        "flatten", description="flatten keeps where a feature was, global averages each feature over the map first."
    )
    activation: Activation = Field("relu", description="Activation after each convolution and hidden layer.")
    longitude: Longitude = Field(
        "zeros", description="Padding in longitude: zeros, or cyclic across the date line of a global map."
    )
    batch_norm: bool = Field(False, description="Batch normalisation after each convolution.")


class Unet(BaseModel):
    """Encoder-decoder with skip connections: images from images, on the same grid."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filters: list[Annotated[int, Field(ge=1)]] = Field(
        [16, 32, 64],
        min_length=1,
        description="Filters of each level; the last is the bottom, so there is one pooling fewer than levels.",
    )
    kernel: int = Field(3, ge=1, description="Side of the square kernels, odd.")
    convolutions: int = Field(1, ge=1, description="Convolutions per level and side.")
    pool: Literal["avg", "max"] = Field("avg", description="Pooling; avg is easier to explain.")
    upsample: Literal["nearest", "bilinear"] = Field("nearest", description="How maps are upsampled.")
    skip: bool = Field(True, description="Skip connections by concatenation; false gives a plain encoder-decoder.")
    activation: Activation = Field("relu", description="Activation after each convolution.")
    longitude: Longitude = Field(
        "zeros", description="Padding in longitude: zeros, or cyclic across the date line of a global map."
    )
    batch_norm: bool = Field(False, description="Batch normalisation after each convolution.")


class Architecture(BaseModel):
    """One built-in architecture and its options: `{mlp: {hidden: [8, 8]}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mlp: Mlp | None = Field(None, description="Fully connected: classes, a value, or images.")
    cnn: Cnn | None = Field(None, description="Convolutions, then dense layers: classes or a value.")
    unet: Unet | None = Field(None, description="Encoder-decoder with skip connections: images.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Architecture:
        named = [name for name in ("mlp", "cnn", "unet") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(
                f"name exactly one of mlp, cnn, unet with its options (mlp: {{}}), found {', '.join(named) or 'none'}"
            )
        return self

    @property
    def chosen(self) -> tuple[str, dict[str, Any]]:
        """The name of the architecture and its options."""
        for name in ("mlp", "cnn", "unet"):
            if (options := getattr(self, name)) is not None:
                return name, options.model_dump()
        raise AssertionError("validated to name one")
