"""Training itself, on a network of toy size: learning, resuming, exporting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.folders import contents
from fixtures.small_recipes import nano as tiny
from fixtures.tiny_nano import TINY
from fixtures.training_scenes import write_scene
from safetensors import SafetensorError

from dkt_ros.errors import DktError
from dkt_ros.files import only_process
from dkt_ros.model.checkpoint import load_checkpoint
from dkt_ros.train.nano import loop
from dkt_ros.train.nano.dataset import SequenceFolder
from dkt_ros.train.nano.loop import (
    NanoTrainer,
    rate_factor,
    to_tensors,
    train,
)
from dkt_ros.train.nano.network import NanoModel, export
from dkt_ros.train.small_trainer import LOCK_FILE
from dkt_ros.train.states import STATE_FILE


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for index in range(3):
        write_scene(folder, f"scene{index}", frames=5, size=(32, 48))
    return folder


@pytest.fixture(scope="module")
def begun(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[NanoTrainer, Path]:
    """A run of tiny() after nine steps and the folder of its state, both to be read alone."""
    trainer, folder = NanoTrainer(tiny(), SequenceFolder(scenes)), tmp_path_factory.mktemp("begun")
    for _ in range(9):
        trainer.train_step()
    trainer.save(folder)
    return trainer, folder


def test_clips_take_each_length_in_turn_and_the_checkpoint_says_the_longest(
    scenes: Path, tmp_path: Path
) -> None:
    stage = {"steps": 12, "height": 32, "width": 48, "batch": 2, "clip_every": 2, "clip_batch": 4}
    # One length for the VAE, the next one for the encoder, all for everything.
    config = tiny(stages=[{**stage, "clip_frames": 13}], vae_steps=2, encoder_steps=2)
    drawn = [config.stages[0].clips_at(step) for step in range(8)]
    assert drawn == [None, (4, 5), None, (2, 9), None, (1, 13), None, (4, 5)]
    trainer = NanoTrainer(config, SequenceFolder(scenes))
    for _ in range(10):
        trainer.train_step()
    trainer.save(tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / NanoTrainer.WEIGHTS).info.clip == 4
    asked = NanoModel(tiny(stages=[{**stage, "clip_frames": 13}], clip=2))
    export(asked, asked.state_dict(), tmp_path / "asked")
    assert load_checkpoint(tmp_path / "asked").info.clip == 2
    for wrong in (4, 8, 1):
        with pytest.raises(DktError, match=f"clip_frames is {wrong}, expected 4N"):
            tiny(stages=[{**stage, "clip_frames": wrong}])


@pytest.mark.parametrize("asked", [False, True])
def test_layers_compute_in_bfloat16_where_asked_and_weights_learn_in_float32(
    scenes: Path, asked: bool
) -> None:
    config = tiny(bfloat16=asked, vae_steps=1, encoder_steps=2)
    trainer = NanoTrainer(config, SequenceFolder(scenes))
    computed = set()
    for layer in trainer.model.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv3d):
            layer.register_forward_hook(lambda _layer, _given, out: computed.add(out.dtype))
    for _ in range(4):  # of the VAE, of the encoder, and of everything in a clip
        trainer.train_step()
        if trainer.step == config.vae_steps + 1:
            computed.clear()  # statistics of latents are measured in float32
    assert computed == {torch.bfloat16 if asked else torch.float32}
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("apart", [True, False])
def test_a_vae_of_pictures_tells_the_newest_frame_of_a_clip_as_it_tells_that_one_alone(
    begun: tuple[NanoTrainer, Path], scenes: Path, apart: bool
) -> None:
    start = str(begun[1] / NanoTrainer.WEIGHTS)
    config = tiny(start=start, picture_vae=apart, vae_steps=0, encoder_steps=0)
    trainer = NanoTrainer(config, SequenceFolder(scenes))
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for _ in range(4):  # the last one of clips
        trainer.train_step()
    model = trainer.model
    model.load_state_dict(trainer.average)
    assert not torch.equal(model.vae.decoder.conv_in.weight, before["vae.decoder.conv_in.weight"])
    clip = torch.rand(1, 3, 9, 32, 48)
    with torch.no_grad():
        latents = model.encode(clip)
        alone = torch.cat([model.encode(clip[:, :, i : i + 1]) for i in (0, 4, 8)], dim=2)
        newest = model.decode(latents)[:, :, ::4]
        single = torch.cat([model.decode(one) for one in latents.split(1, dim=2)], dim=2)
    close = [torch.allclose(a, b, atol=1e-5) for a, b in ((latents, alone), (newest, single))]
    assert close == [apart, apart]


@pytest.mark.parametrize("condition", ["raw_depth", "from_raw_depth"])
def test_shown_raw_depth_it_starts_as_it_was_and_resumes_to_the_last_bit(
    tmp_path: Path, condition: str
) -> None:
    for index in range(2):
        write_scene(tmp_path / "scenes", f"s{index}", frames=5, size=(32, 48), raw_depth=True)
    data = SequenceFolder(tmp_path / "scenes")
    first = NanoTrainer(tiny(), data)
    first.train_step()
    first.save(tmp_path / "first")
    start = tmp_path / "first" / NanoTrainer.WEIGHTS
    config = tiny(
        start=str(start),
        condition=condition,
        condition_dropped=0.3,
        vae_steps=0,
        encoder_steps=0,
    )
    whole = NanoTrainer(config, data)
    x = torch.randn(1, 16, 1, 4, 6)
    with torch.no_grad():
        blind = whole.model.velocity(x, x, torch.ones(1))
        assert torch.equal(whole.model.velocity(x, x, torch.ones(1), x), blind)
    losses = [whole.train_step() for _ in range(4)]
    with torch.no_grad():
        assert not torch.equal(
            whole.model.velocity(x, x, torch.ones(1), x), whole.model.velocity(x, x, torch.ones(1))
        )

    begun = NanoTrainer(config, data)
    begun.train_step()
    begun.save(tmp_path / "run")
    resumed = NanoTrainer(config, SequenceFolder(tmp_path / "scenes"))
    resumed.load(tmp_path / "run")
    assert [resumed.train_step() for _ in range(3)] == losses[1:]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    network = load_checkpoint(tmp_path / "run" / NanoTrainer.WEIGHTS)
    assert network.info.condition == condition
    with pytest.raises(DktError, match=f"condition was {condition}"):
        NanoTrainer(tiny(vae_steps=0, encoder_steps=0, start=str(start)), data).load(
            tmp_path / "run"
        )


def test_a_start_of_other_sizes_is_refused(scenes: Path) -> None:
    with pytest.raises(DktError, match=r"start .*nano is of another size than network: "):
        NanoTrainer(tiny(start="dkt-nano"), SequenceFolder(scenes))


def test_one_batch_is_learned(scenes: Path) -> None:
    data = SequenceFolder(scenes)
    batch = data.batch(1, 0, (32, 48), 2, 1)
    data.batch = lambda *wanted: batch  # type: ignore[method-assign]
    config = tiny(
        200,
        vae_steps=20,
        encoder_steps=3,
        learning_rate=5e-3,
        loss={"sigma_one_share": 1.0},
    )
    trainer = NanoTrainer(config, data)
    history = [trainer.train_step() for _ in range(48)]
    assert history[19]["reconstruction"] < 0.5 * history[0]["reconstruction"]
    assert history[-1]["pixel"] < 0.7 * history[23]["pixel"]


def test_one_batch_is_seen_at_other_noise_each_time(scenes: Path) -> None:
    data = SequenceFolder(scenes)
    batch = data.batch(1, 0, (32, 48), 2, 1)
    data.batch = lambda *wanted: batch  # type: ignore[method-assign]
    trainer = NanoTrainer(tiny(learning_rate=1e-30, weight_decay=0.0), data)
    trainer.step = 6  # of all
    assert len({trainer.train_step()["flow"] for _ in range(3)}) == 3


def test_the_average_is_as_short_when_the_vae_is_done_as_at_first(scenes: Path) -> None:
    trainer, name = NanoTrainer(tiny(), SequenceFolder(scenes)), "vae.quant_conv.weight"
    for done in range(1, 6):
        before = trainer.average[name].clone()
        trainer.train_step()
        now, own = trainer.average[name], trainer.model.state_dict()[name]
        share = 0.1 if done <= 4 else 2 / 11  # of the past; the VAE takes three steps
        torch.testing.assert_close(now, share * before + (1 - share) * own)


def test_export_predicts_what_was_trained(begun: tuple[NanoTrainer, Path]) -> None:
    trainer, folder = begun
    network = load_checkpoint(folder / NanoTrainer.WEIGHTS)
    model = NanoModel(tiny())
    model.load_state_dict(trainer.average)
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    with torch.no_grad():
        latents = model.normalise(model.encode(video))
        noise = torch.randn(latents.shape)
        # Weights are stored in float16: equal to about a thousandth.
        torch.testing.assert_close(network.encode_rgb(video), latents, atol=0.02, rtol=0.02)
        expected = model.velocity(noise, latents, torch.ones(1))
        torch.testing.assert_close(
            network.velocity(noise, latents, 1000.0), expected, atol=0.02, rtol=0.02
        )
        decoded = model.decode(latents).clamp(-1, 1)
        torch.testing.assert_close(network.decode(latents), decoded, atol=0.02, rtol=0.02)
    assert network.info.steps == tiny().steps
    assert network.info.clip == 2, "latent frames of the 5-frame clips that it is trained on"


def test_a_clip_starts_as_good_as_its_pictures() -> None:
    model = NanoModel(tiny())
    image = torch.rand(1, 3, 1, 32, 48) * 2 - 1
    with torch.no_grad():
        still = model.encode(image.expand(-1, -1, 5, -1, -1))
        single = model.encode(image)
        assert still.shape == (1, 16, 2, 4, 6)
        torch.testing.assert_close(still[:, :, :1], single)
        torch.testing.assert_close(still[:, :, 1:], single)
        clip = model.decode(still)
        torch.testing.assert_close(clip, model.decode(single).expand(-1, -1, 5, -1, -1))


def test_train_saves_and_goes_on_with_the_same_network_alone(scenes: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    short = {"vae_steps": 1, "encoder_steps": 1, "decay_steps": 1}
    train(tiny(4, **short), scenes, tmp_path / "run", report=lines.append, report_every=2)
    assert (tmp_path / "run" / STATE_FILE).is_file()
    assert (tmp_path / "run" / NanoTrainer.WEIGHTS / "dkt.json").is_file()
    assert any("step 4" in line and "norm" in line for line in lines)
    other = tiny(4, **short, network={**TINY, "layers": 2})
    with pytest.raises(DktError, match="network was"):
        train(other, scenes, tmp_path / "run", resume=True, report=lines.append)


def test_two_runs_do_not_share_a_folder(scenes: Path, tmp_path: Path) -> None:
    with (
        only_process(tmp_path / LOCK_FILE, ""),
        pytest.raises(DktError, match=f"another run works in {tmp_path}"),
    ):
        train(tiny(), scenes, tmp_path)


def test_raw_depth_that_no_sequence_has_is_asked_for_in_vain(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DktError, match=r"condition is raw_depth, and no sequence in .* has raw"):
        train(tiny(condition="raw_depth"), scenes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_few_sequences_lack_is_told(scenes: Path, tmp_path: Path) -> None:
    for scene in scenes.iterdir():
        (tmp_path / scene.name).symlink_to(scene)
    write_scene(tmp_path, "with", frames=5, size=(32, 48), raw_depth=True)
    told: list[str] = []

    def ends_the_run(line: str) -> None:
        told.append(line)
        if "step 0 of" in line:
            raise InterruptedError

    stage = {"steps": 2, "height": 32, "width": 48, "batch": 2, "clip_every": 4, "clip_frames": 9}
    short: dict[str, Any] = {"stages": [stage], "vae_steps": 1, "encoder_steps": 0}
    short |= {"warmup_steps": 1, "decay_steps": 1}
    config = tiny(**short, condition="raw_depth")
    with pytest.raises(InterruptedError):
        train(config, tmp_path, tmp_path / "run", report=ends_the_run)
    assert told[0] == "raw depth: 1 of 4 sequences have it"
    assert told[1].startswith("clips of up to 9 frames are trained on, the longest sequence has 5:")
    told.clear()
    stage["clip_frames"] = 5
    with pytest.raises(InterruptedError):
        train(tiny(**short), tmp_path, tmp_path / "plain", report=ends_the_run)
    assert told[0] == "4 sequences, step 0 of 2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "cannot be read"),
        ({"config": None}, "holds no state of such a run"),
        ({"model": {}}, "holds no state of such a run"),
        ({"step": "x"}, "holds no state of such a run"),
        ({"optimizer": ...}, "holds no state of such a run"),
    ],
)
def test_a_state_that_is_none_is_named(
    scenes: Path, tmp_path: Path, change: dict[str, Any] | None, said: str
) -> None:
    trainer = NanoTrainer(tiny(), SequenceFolder(scenes))
    trainer.save(tmp_path)
    file = tmp_path / STATE_FILE
    if change is None:
        file.write_bytes(b"hello")
    else:
        content = torch.load(file, weights_only=True) | change
        torch.save({key: value for key, value in content.items() if value is not ...}, file)
    with pytest.raises(DktError, match=rf"state\.pt {said}") as caught:
        trainer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_stops_the_run(scenes: Path, tmp_path: Path) -> None:
    trainer = NanoTrainer(tiny(), SequenceFolder(scenes))
    trainer.save(tmp_path)
    before = (tmp_path / STATE_FILE).read_bytes()
    with torch.no_grad():
        trainer.model.vae.quant_conv.bias.fill_(float("nan"))
    with pytest.raises(DktError, match="loss became nan at step 0"):
        trainer.train_step()
    assert (tmp_path / STATE_FILE).read_bytes() == before


def test_a_full_disk_leaves_the_last_good_state(
    scenes: Path,
    tmp_path: Path,
    limit_files: Callable[[int], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit on file sizes makes torch's own writing fail midway, as a full disk would."""
    trainer, run = NanoTrainer(tiny(), SequenceFolder(scenes)), tmp_path / "run"
    none_before = r"step 0 cannot be saved to .*run \(.+\); no state was saved before"
    with limit_files(10_000), pytest.raises(DktError, match=none_before):
        trainer.save(run)
    assert contents(run) == {}
    trainer.save(run)
    before = contents(run)
    trainer.train_step()
    kept = r"step 1 cannot be saved to .*state.pt there is the last good one, .*--resume"
    with limit_files(10_000), pytest.raises(DktError, match=kept):
        trainer.save(run)
    assert contents(run) == before

    def fails(_model: object, _state: object, folder: Path) -> None:
        (folder / "half.safetensors").write_bytes(b"half of it")
        raise SafetensorError("Error while serializing: No space left on device")

    # With room for the state, but not for the checkpoint, neither is new.
    with monkeypatch.context() as patch:
        patch.setattr(loop, "export", fails)
        with pytest.raises(DktError, match="No space left"):
            trainer.save(run)
    assert contents(run) == before
    trainer.save(run)
    resumed = NanoTrainer(tiny(), SequenceFolder(scenes))
    resumed.load(run)
    assert resumed.step == 1
    assert contents(run).keys() == before.keys()


def test_latent_statistics_are_measured_when_the_vae_is_done(scenes: Path) -> None:
    trainer = NanoTrainer(tiny(), SequenceFolder(scenes))
    for _ in range(4):
        trainer.train_step()
    assert (trainer.model.latents_std != 1).all()
    with torch.no_grad():
        target = to_tensors(trainer.data.batch(1, 2**31, (32, 48), 64, 1)).target
        latents = trainer.model.normalise(trainer.model.encode(target.expand(-1, 3, -1, -1, -1)))
    # One step later the network has moved a little.
    assert latents.mean().abs() < 0.3
    assert 0.7 < latents.std() < 1.4


def test_learning_rate() -> None:
    config = tiny(100, vae_steps=20, encoder_steps=0, warmup_steps=10, decay_steps=40)
    assert rate_factor(0, config) == pytest.approx(0.1)
    assert rate_factor(19, config) == 1.0
    assert rate_factor(20, config) == pytest.approx(0.1)
    assert rate_factor(59, config) == 1.0
    assert rate_factor(80, config) == pytest.approx(0.02 + 0.98 * 0.5)
    assert rate_factor(99, config) < 0.03
    stages = [
        {"steps": 50, "height": 32, "width": 48, "batch": 2},
        {"steps": 50, "height": 32, "width": 48, "batch": 2, "rate": 0.5},
    ]
    halved = tiny(stages=stages, vae_steps=20, warmup_steps=10, decay_steps=20)
    assert (rate_factor(49, halved), rate_factor(50, halved)) == (1.0, 0.5)
    assert rate_factor(90, halved) == pytest.approx(0.5 * (0.02 + 0.98 * 0.5))
    # Another loss, another warm-up.
    assert rate_factor(30, tiny(100, vae_steps=20, encoder_steps=10, warmup_steps=10)) == 0.1
