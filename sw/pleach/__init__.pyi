# What `import pleach` gives: a type checker reads it, and so does __init__.py, which imports a name
# when it is first asked for.
from pleach import compile as compile
from pleach import compression as compression
from pleach import cycles as cycles
from pleach import data as data
from pleach import engine as engine
from pleach import errors as errors
from pleach import format as format
from pleach import host as host
from pleach import metrics as metrics
from pleach import model as model
from pleach import models as models
from pleach import page as page
from pleach import reference as reference
from pleach import report as report
from pleach import vectors as vectors
from pleach.compression import CompressConfig as CompressConfig
from pleach.compression import PruneConfig as PruneConfig
from pleach.compression import ShareConfig as ShareConfig
from pleach.compression import TrainConfig as TrainConfig
from pleach.compression import compress as compress
from pleach.compression import error_percent as error_percent
from pleach.compression import finish as finish
from pleach.compression import prune_ as prune_
from pleach.compression import reassign_ as reassign_
from pleach.compression import remove_neurons_ as remove_neurons_
from pleach.compression import share_ as share_
from pleach.compression import train as train
from pleach.engine import EngineConfig as EngineConfig
from pleach.errors import GuessWarning as GuessWarning
from pleach.errors import PleachError as PleachError
from pleach.errors import PleachWarning as PleachWarning
from pleach.errors import TrainingError as TrainingError
from pleach.format import load as load
from pleach.format import save as save
from pleach.host import Engine as Engine
from pleach.model import Activation as Activation
from pleach.model import CompressedLayer as CompressedLayer
from pleach.model import CompressedModel as CompressedModel
from pleach.model import InputType as InputType
from pleach.reference import Reference as Reference

__version__: str
