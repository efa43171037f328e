"""What TensorBoard's own code reads of a folder."""

from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups


def provider(path):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(path))
    multiplexer.Reload()
    return data_provider.MultiplexerDataProvider(multiplexer, str(path))


def hparams(path):
    """(TensorBoard's experiment, its session groups by name)."""
    found = backend_context.Context(base_plugin.TBContext(data_provider=provider(path)))
    request = context.RequestContext()
    metadata = found.hparams_metadata(request, "")
    listed = found.hparams_from_data_provider(request, "", limit=None)
    experiment = found.experiment_from_metadata(request, "", True, metadata, listed)
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=100,
        allowed_statuses=api_pb2.Status.values(),
        include_metrics=True,
    )
    groups = list_session_groups.Handler(request, found, "", asked).run().session_groups
    return experiment, {group.name.removesuffix("/validation"): group for group in groups}
