@pytest.mark.parametrize("rename", [old_name, new_name])
def test_names_of_transformers_4_and_5_in_shards(
    checkpoint: Path, tmp_path: Path, clip: VisualSequence, model: LanguageModel, rename: Any
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "other", rename=rename, num_shards=2)
    actual = fresh_answer(load_model(folder), clip, QUESTIONS[0])
    assert actual == fresh_answer(model, clip, QUESTIONS[0])


def test_no_vision_tensor_is_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names_read: list[str] = []
    monkeypatch.setattr(safetensors, "safe_open", WatchedReader(names_read))
    model = load_model(checkpoint)
    assert {name.split(".")[0] for name in names_read} == {"language_model"}
    num_read = len(names_read)
    model.load()
    assert len(names_read) == num_read


def test_prompts_need_no_weights(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weightless"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = LanguageModel(str(folder), device="cpu", dtype=torch.float32, compact_positions=True)
    assert model.context_length == 32_768
    assert model.prompt("Why?", [""]).num_text_tokens > 3
    with pytest.raises(ModelError, match="no safetensors weights"):
        model.load()


def test_missing_tensors_are_named(checkpoint: Path, tmp_path: Path) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "gap", without="layers.1.mlp.up_proj")
    with pytest.raises(ModelError, match=r"the language model lacks .*layers\.1\.mlp\.up_proj"):
        load_model(folder)


def test_tensors_of_the_wrong_shape_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    def cut(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = "language_model.model.norm.weight"
        return tensors | {name: tensors[name][:-1]}

    folder = rewrite_checkpoint(checkpoint, tmp_path / "cut", changes=cut)
    with pytest.raises(ModelError, match=r"the language model .*norm\.weight"):
        load_model(folder)


def test_a_checkpoint_without_lm_head_shares_the_embedding(
    checkpoint: Path, tmp_path: Path, clip: VisualSequence
) -> None:
    folder = rewrite_checkpoint(checkpoint, tmp_path / "tied", without="lm_head")
    model = load_model(folder)
    assert model._model.lm_head.weight is model._model.get_input_embeddings().weight
    assert len(fresh_answer(model, clip, QUESTIONS[0])) > 0


def test_a_checkpoint_without_chat_template_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ModelError, match="the checkpoint has no chat template"):
        LanguageModel(str(folder), device="cpu", dtype=torch.float32, compact_positions=True)


def test_a_checkpoint_without_processor_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    with pytest.raises(ModelError, match=r"^[^\n]*: processor: [^\n]+$"):
        LanguageModel(str(tmp_path), device="cpu", dtype=torch.float32, compact_positions=True)
