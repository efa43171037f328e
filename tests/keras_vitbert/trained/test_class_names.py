"""Whether two lists name the same classes."""

from keras_vitbert.trained.trained_model import _imagenet_names, first_difference


def test_spellings_of_classes():
    assert first_difference(["n01440764", "a_B"], ["Tench, Tinca tinca", "x, a-b"]) is None
    assert first_difference(["n01440764"], ["n01440764"]) is None
    assert first_difference(["n01443537", "hen"], ["goldfish", "cock"]) == 1
    assert first_difference(["n01440764"], ["goldfish"]) == 0
    assert first_difference(["n00000000"], ["nothing"]) == 0
    # One of many ids may have an unknown name, but not the name of another.
    ids = [synset for synset in _imagenet_names() if synset < "n02"][:40]
    names = [_imagenet_names()[synset] for synset in ids]
    assert first_difference(ids, [*names[:7], "a pet name", *names[8:]]) is None
    assert first_difference(ids, [*names[:7], names[0], *names[8:]]) == 7
    assert first_difference(ids, [*names[:7], "a", "b", "c", *names[10:]]) == 7
