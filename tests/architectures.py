"""Tiny models of Hugging Face transformers with random weights: real forwards, nothing to download.

Sizes are different primes where a config lets them be, and 2 or 4 times a prime where a number of heads divides them.
Each entry of ARCHITECTURES builds (model, inputs); inputs are keyword arguments that hold everything a forward needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Built = tuple[nn.Module, dict[str, Tensor]]

BATCH, LENGTH, TARGET = 3, 11, 7  # of texts
VOCABULARY, HIDDEN, HEADS, FEEDFORWARD, LAYERS = 101, 20, 2, 37, 2
SIDE = 32  # of images


def loss_of(output: Any) -> Tensor:
    """Mean of squares of every float tensor in a model's output."""
    tensors = [t for t in tensors_of(output) if t.is_floating_point()]
    return sum(t.float().square().sum() for t in tensors) / sum(t.numel() for t in tensors)


def tensors_of(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from tensors_of(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors_of(part)


def words(length: int = LENGTH) -> Tensor:
    return torch.randint(5, VOCABULARY, (BATCH, length))


def texts(length: int = LENGTH) -> dict[str, Tensor]:
    return {"input_ids": words(length), "attention_mask": torch.ones(BATCH, length, dtype=torch.long)}


def pairs_of_texts() -> dict[str, Tensor]:
    return {"input_ids": words(), "decoder_input_ids": words(TARGET)}


def images(side: int = SIDE) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(BATCH, 3, side, side)}


def built(name: str, inputs: dict[str, Tensor], config: str = "", **sizes) -> Built:
    """The model of that class name, from its config (named alike unless told otherwise)."""
    import transformers

    kind = getattr(transformers, name)
    settings = getattr(transformers, config)(**sizes) if config else kind.config_class(**sizes)
    return kind(settings), inputs


def without(sizes: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: size for name, size in sizes.items() if name not in names}


# What many configs call by the same names. The width of experts is a multiple of 4: grouped_mm asks for it.
ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FEEDFORWARD,
}
DECODER = ENCODER | {"use_cache": False}
ROPED = DECODER | {"num_key_value_heads": 1, "head_dim": 10}
VISION = without(ENCODER, "vocab_size") | {"image_size": SIDE}
SPECIALS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def t5(name: str, **more) -> Built:
    sizes = {"vocab_size": VOCABULARY, "d_model": HIDDEN, "d_kv": 7, "d_ff": FEEDFORWARD, "num_heads": HEADS}
    return built(name, pairs_of_texts(), **sizes, num_layers=LAYERS, num_decoder_layers=LAYERS, use_cache=False, **more)


def recurrent(name: str, **more) -> Built:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "use_cache": False}
    return built(name, {"input_ids": words()}, **sizes, **more, **SPECIALS)


def clip() -> Built:
    import transformers

    text = transformers.CLIPTextConfig(**ENCODER, max_position_embeddings=23, projection_dim=13, **SPECIALS)
    vision = transformers.CLIPVisionConfig(**VISION, patch_size=8, projection_dim=13)
    config = transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=13)
    return transformers.CLIPModel(config), texts() | images()


def detr() -> Built:
    import transformers

    sizes = {"embedding_size": 13, "hidden_sizes": [17, 19], "depths": [1, 1], "layer_type": "basic"}
    backbone = transformers.ResNetConfig(**sizes, out_features=["stage2"])
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": HIDDEN, "encoder_ffn_dim": FEEDFORWARD, "decoder_ffn_dim": 31, "num_queries": 5}
    config = transformers.DetrConfig(backbone_config=backbone, **layers, **widths)
    return transformers.DetrForObjectDetection(config), images()


def whisper() -> Built:
    heads = {"encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS, "num_mel_bins": 13}
    layers = {"encoder_layers": LAYERS, "decoder_layers": LAYERS, "vocab_size": VOCABULARY, "d_model": HIDDEN}
    widths = {"encoder_ffn_dim": FEEDFORWARD, "decoder_ffn_dim": 31, "max_source_positions": 17}
    more = {"max_target_positions": 23, "decoder_start_token_id": 1, "use_cache": False}
    inputs = {"input_features": torch.randn(BATCH, 13, 34), "decoder_input_ids": words(TARGET)}
    return built("WhisperForConditionalGeneration", inputs, **heads, **layers, **widths, **more, **SPECIALS)


def wav2vec2() -> Built:
    convolutions = {"conv_dim": (13, 17), "conv_stride": (5, 4), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}
    inputs = {"input_values": torch.randn(BATCH, 997)}
    return built("Wav2Vec2Model", inputs, **ENCODER, **convolutions, **positions)


def reformer() -> Built:
    attention = {"attn_layers": ["local", "lsh"], "num_buckets": 2, "attention_head_size": 10}
    chunks = {"local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4, "chunk_size_lm_head": 0}
    positions = {"axial_pos_shape": [3, 4], "axial_pos_embds_dim": [7, 13], "max_position_embeddings": 12}
    sizes = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_attention_heads": HEADS, "feed_forward_size": 37}
    return built("ReformerForMaskedLM", {"input_ids": words(12)}, **sizes, **attention, **chunks, **positions)


def gemma3n() -> Built:
    layers = {"layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.9, 0.0]}
    widths = {"intermediate_size": [FEEDFORWARD] * 2, "hidden_size_per_layer_input": 7, "laurel_rank": 5}
    more = {"vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "sliding_window": 8}
    return built("Gemma3nForCausalLM", texts(), "Gemma3nTextConfig", **ROPED | layers | widths | more)


def encodec() -> Built:
    sizes = {"num_filters": 6, "hidden_size": 7, "codebook_dim": 7, "codebook_size": 16, "num_lstm_layers": 1}
    inputs = {"input_values": torch.randn(BATCH, 1, 640)}
    return built("EncodecModel", inputs, **sizes, upsampling_ratios=[4, 2], target_bandwidths=[24.0])


def hifigan() -> Built:
    blocks = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "model_in_dim": 13}
    upsampling = {"upsample_initial_channel": 22, "upsample_rates": [2], "upsample_kernel_sizes": [4]}
    return built("SpeechT5HifiGan", {"spectrogram": torch.randn(BATCH, LENGTH, 13)}, **blocks, **upsampling)


def patchtsmixer() -> Built:
    sizes = {"num_input_channels": 2, "context_length": 28, "patch_length": 4, "patch_stride": 4, "d_model": 13}
    inputs = {"past_values": torch.randn(BATCH, 28, 2)}
    return built("PatchTSMixerForPrediction", inputs, **sizes, num_layers=LAYERS, prediction_length=5)


OPT = without(DECODER, "intermediate_size") | {"ffn_dim": FEEDFORWARD, "word_embed_proj_dim": HIDDEN}
FALCON = without(DECODER, "intermediate_size") | {"ffn_hidden_size": FEEDFORWARD}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "use_cache": False}
BLOOM = without(GPT2, "n_embd") | {"hidden_size": HIDDEN}
DISTIL = {"vocab_size": VOCABULARY, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": FEEDFORWARD}
XLNET = without(GPT2, "n_embd", "use_cache") | {"d_model": HIDDEN, "d_inner": FEEDFORWARD, "use_mems_eval": False}
SWITCH = {"num_experts": 3, "expert_capacity": 5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
MIXTRAL = ROPED | {"num_local_experts": 5, "num_experts_per_tok": 2, "intermediate_size": 28}
GPT_OSS = MIXTRAL | {"layer_types": ["sliding_attention", "full_attention"]}
QWEN2_MOE = DECODER | {
    "num_key_value_heads": 1,
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 28,
    "shared_expert_intermediate_size": 17,
}
RESNET = {"embedding_size": 13, "hidden_sizes": [17, 19], "depths": [1, 2], "layer_type": "basic"}
BOTTLENECK = RESNET | {"hidden_sizes": [20, 28], "layer_type": "bottleneck"}
REGNET = {"embedding_size": 13, "hidden_sizes": [14, 22], "depths": [1, 2], "groups_width": 2}
EFFICIENT = {
    "in_channels": [32, 13],
    "out_channels": [13, 17],
    "kernel_sizes": [3, 5],
    "strides": [1, 2],
    "num_block_repeats": [1, 2],
    "expand_ratios": [1, 6],
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "depth_divisor": 1,
    "hidden_dim": 1280,
    "image_size": SIDE,
}
CONVNEXT = {"num_stages": 2, "hidden_sizes": [13, 17], "depths": [1, 2]}
MOBILENET = {"depth_multiplier": 0.1, "image_size": SIDE, "classifier_dropout_prob": 0.2}
VITDET = without(VISION, "intermediate_size") | {"mlp_ratio": 3, "pretrain_image_size": SIDE, "patch_size": 8}
SWIN = {"image_size": SIDE, "patch_size": 2, "embed_dim": 14, "depths": [1, 2], "num_heads": [1, 2], "mlp_ratio": 3}
SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [13, 22],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [3, 2],
    "decoder_hidden_size": 29,
}

ARCHITECTURES: dict[str, Callable[[], Built]] = {
    "opt": lambda: built("OPTForCausalLM", texts(), **OPT, **SPECIALS),
    "gpt2": lambda: built("GPT2LMHeadModel", texts(), **GPT2, n_inner=FEEDFORWARD, n_positions=23, **SPECIALS),
    "bloom": lambda: built("BloomForCausalLM", texts(), **BLOOM),  # a custom autograd function
    "falcon": lambda: built("FalconForCausalLM", texts(), **FALCON, **SPECIALS),
    "llama": lambda: built("LlamaForCausalLM", texts(), **ROPED),
    "gemma": lambda: built("GemmaForCausalLM", texts(), **ROPED),
    "gemma3n": gemma3n,  # F.relu of a gate above a quantile
    "phi": lambda: built("PhiForCausalLM", texts(), **DECODER, partial_rotary_factor=0.4),
    "nemotron": lambda: built("NemotronForCausalLM", texts(), **ROPED),  # relu²
    "apertus": lambda: built("ApertusForCausalLM", texts(), **DECODER),  # softplus of parameters, no unit of any layer
    "mixtral": lambda: built("MixtralForCausalLM", texts(), **MIXTRAL),  # one call for all experts
    "mixtral_eager": lambda: built("MixtralForCausalLM", texts(), **MIXTRAL, experts_implementation="eager"),
    "gpt_oss": lambda: built("GptOssForCausalLM", texts(), **GPT_OSS),  # gate * sigmoid(gate * alpha) in a line
    "qwen2_moe": lambda: built("Qwen2MoeForCausalLM", texts(), **QWEN2_MOE),
    "mamba": lambda: recurrent("MambaForCausalLM", state_size=7, time_step_rank=3),
    "mamba2": lambda: recurrent("Mamba2ForCausalLM", state_size=7, num_heads=4, head_dim=10, n_groups=1, chunk_size=4),
    "rwkv": lambda: recurrent("RwkvForCausalLM", attention_hidden_size=HIDDEN, intermediate_size=FEEDFORWARD),
    "t5": lambda: t5("T5ForConditionalGeneration"),
    "t5_gated": lambda: t5("T5ForConditionalGeneration", feed_forward_proj="gated-gelu"),
    "switch_transformers": lambda: t5("SwitchTransformersForConditionalGeneration", **SWITCH),
    "bert": lambda: built("BertForSequenceClassification", texts(), **ENCODER),
    "albert": lambda: built("AlbertForMaskedLM", texts(), **ENCODER, embedding_size=13, **SPECIALS),
    "distilbert": lambda: built("DistilBertForSequenceClassification", texts(), **DISTIL),  # nn.ReLU()(x) in forward
    "deberta": lambda: built("DebertaForSequenceClassification", texts(), **ENCODER),
    "esm": lambda: built("EsmForMaskedLM", texts(), **ENCODER, mask_token_id=3, pad_token_id=0),  # gelu of torch.erf
    "longformer": lambda: built("LongformerForSequenceClassification", texts(12), **ENCODER, attention_window=4),
    "xlnet": lambda: built("XLNetForSequenceClassification", texts(), **XLNET, **SPECIALS),
    "reformer": reformer,  # computes its layers again, in a custom autograd function
    "whisper": whisper,  # F.gelu behind convolutions
    "wav2vec2": wav2vec2,
    "encodec": encodec,  # ELU, and LSTMs whose gates nobody sees
    "hifigan": hifigan,  # F.leaky_relu
    "patchtsmixer": patchtsmixer,  # F.gelu
    "resnet": lambda: built("ResNetForImageClassification", images(), **RESNET),
    "resnet_bottleneck": lambda: built("ResNetForImageClassification", images(), **BOTTLENECK),
    "regnet": lambda: built("RegNetForImageClassification", images(), **REGNET),
    "mobilenet_v1": lambda: built("MobileNetV1ForImageClassification", images(), **MOBILENET),
    "mobilenet_v2": lambda: built("MobileNetV2ForImageClassification", images(), **MOBILENET),
    "mobilevit_v2": lambda: built("MobileViTV2Model", images(64), image_size=64, width_multiplier=0.25),
    "pp_lcnet": lambda: built("PPLCNetForImageClassification", images(), scale=0.25),  # Hardswish, Hardsigmoid
    "efficientnet": lambda: built("EfficientNetForImageClassification", images(), **EFFICIENT),
    "convnext": lambda: built("ConvNextForImageClassification", images(), **CONVNEXT),
    "convnextv2": lambda: built("ConvNextV2ForImageClassification", images(), **CONVNEXT),
    "vit": lambda: built("ViTForImageClassification", images(), **VISION, patch_size=8),
    "vitdet": lambda: built("VitDetModel", images(), **VITDET, residual_block_indices=[0]),
    "swin": lambda: built("SwinForImageClassification", images(), **SWIN, window_size=4),
    "segformer": lambda: built("SegformerForSemanticSegmentation", images(), **SEGFORMER),
    "clip": clip,
    "detr": detr,  # F.relu between the layers of a head
}
