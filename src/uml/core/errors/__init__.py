"""Every error a user can meet.

    UmlError
    ├── BadRequest              400 invalid_request       the request is not what the endpoint takes
    │   ├── UnknownField        400 unknown_field
    │   ├── BadOption           400 bad_option            a load option out of its range
    │   ├── UnsupportedParameter 400 unsupported_parameter only with `strict`
    │   └── ContextLengthExceeded 400 context_length_exceeded
    ├── NotAllowed              403 not_allowed           a Host or Origin that is not expected
    │   └── BadKey              401 invalid_api_key
    ├── NotFound                404 not_found
    │   ├── InstallNotFound     404 install_not_found     no such environment of an engine
    │   └── ModelNotFound       404 model_not_found
    │       └── AmbiguousModel  404 ambiguous_model       a name that several models share
    ├── SlowRequest             408 request_timeout
    ├── BodyTooLarge            413 body_too_large
    ├── HeadTooLarge            431 head_too_large
    ├── BadFile                 422 bad_file              what is on disk cannot be used
    │   ├── CorruptFile         422 corrupt_file
    │   ├── MissingShard        422 missing_shard
    │   └── UnsupportedFormat   422 unsupported_format
    ├── Cancelled               499 cancelled
    ├── LoadFailed              500 load_failed           the engine started and did not get ready
    │   ├── UnsupportedArchitecture 422 unsupported_architecture
    │   ├── IllegalInstruction  500 illegal_instruction
    │   ├── OutOfMemory         507 out_of_memory
    │   ├── LoadTimeout         504 load_timeout
    │   ├── LoadSuspended       503 load_suspended        it failed a moment ago, and is not tried again yet
    │   └── Quarantined         503 quarantined           its worker has died too often
    ├── EngineNotInstalled      409 engine_not_installed
    ├── InstallRefused          409 install_refused       an engine's environment cannot be made here
    │   └── NoRoom              507 no_room               the disk has too little space for it
    ├── InstallFailed           500 install_failed        it was begun, and nothing is left of it
    ├── ConversionFailed        500 conversion_failed     a model was not made into another, and nothing is left of it
    ├── WorkerDied              502 worker_died           a loaded model's process ended in mid-request
    │   └── WorkerHung          504 worker_hung           it stood still with work to do, and was ended
    ├── RequestTimeLimit        504 request_time_limit    an answer took longer than the setting allows
    ├── EngineError             502 engine_error          a loaded model's engine answered with an error of its own
    │   └── UnreadableAnswer    502 unreadable_answer     it could not tell text from calls of tools in an answer
    ├── ConnectionLost          502 connection_lost       a server went away in mid-answer
    ├── RemoteFailed            502 remote_failed         a hub or web server did not give what was asked of it
    │   ├── RemoteNotFound      404 remote_not_found
    │   └── RemoteRefused       403 remote_refused        private or gated
    ├── Offline                 403 offline               a name on the net, and nothing may leave the machine
    ├── Overloaded              503 overloaded
    ├── DoesNotFit              507 does_not_fit
    ├── AnswerDoesNotFit        507 answer_does_not_fit   one answer needs more beside its model than is free
    └── SetupError              500                       the program cannot start here
        ├── BadSetting          500 bad_setting           not what the setting takes
        ├── PortTaken           500 port_taken
        ├── FolderNotWritable   500 folder_not_writable
        ├── AlreadyRunning      500 already_running
        ├── SandboxUnavailable  500 sandbox_unavailable   workers cannot be confined as the setting requires
        └── NoServer            503 no_server             a command needs a server and none runs

An error carries its parts and its own sentence; the gateway has one handler, the command line
one renderer, and nobody formats it a second time.
"""

from __future__ import annotations

from uml.core.errors.answers import (
    AnswerDoesNotFit,
    ConnectionLost,
    EngineError,
    RequestTimeLimit,
    UnreadableAnswer,
    WorkerDied,
    WorkerHung,
)
from uml.core.errors.engines import (
    ConversionFailed,
    EngineNotInstalled,
    InstallFailed,
    InstallNotFound,
    InstallRefused,
    NoRoom,
)
from uml.core.errors.files import (
    BadFile,
    CorruptFile,
    MissingShard,
    UnsupportedFormat,
)
from uml.core.errors.loads import (
    DoesNotFit,
    IllegalInstruction,
    LoadFailed,
    LoadSuspended,
    LoadTimeout,
    OutOfMemory,
    Quarantined,
    UnsupportedArchitecture,
)
from uml.core.errors.remote import (
    Offline,
    RemoteFailed,
    RemoteNotFound,
    RemoteRefused,
)
from uml.core.errors.requests import (
    AmbiguousModel,
    BadKey,
    BadOption,
    BadRequest,
    BodyTooLarge,
    Cancelled,
    ContextLengthExceeded,
    HeadTooLarge,
    ModelNotFound,
    NotAllowed,
    NotFound,
    Overloaded,
    SlowRequest,
    UnknownField,
    UnsupportedParameter,
)
from uml.core.errors.root import (
    UmlError,
    gib,
)
from uml.core.errors.setup import (
    AlreadyRunning,
    BadSetting,
    FolderNotWritable,
    NoServer,
    PortTaken,
    SandboxUnavailable,
    SetupError,
)

__all__ = [
    "AlreadyRunning",
    "AmbiguousModel",
    "AnswerDoesNotFit",
    "BadFile",
    "BadKey",
    "BadOption",
    "BadRequest",
    "BadSetting",
    "BodyTooLarge",
    "Cancelled",
    "ConnectionLost",
    "ContextLengthExceeded",
    "ConversionFailed",
    "CorruptFile",
    "DoesNotFit",
    "EngineError",
    "EngineNotInstalled",
    "FolderNotWritable",
    "HeadTooLarge",
    "IllegalInstruction",
    "InstallFailed",
    "InstallNotFound",
    "InstallRefused",
    "LoadFailed",
    "LoadSuspended",
    "LoadTimeout",
    "MissingShard",
    "ModelNotFound",
    "NoRoom",
    "NoServer",
    "NotAllowed",
    "NotFound",
    "Offline",
    "OutOfMemory",
    "Overloaded",
    "PortTaken",
    "Quarantined",
    "RemoteFailed",
    "RemoteNotFound",
    "RemoteRefused",
    "RequestTimeLimit",
    "SandboxUnavailable",
    "SetupError",
    "SlowRequest",
    "UmlError",
    "UnknownField",
    "UnreadableAnswer",
    "UnsupportedArchitecture",
    "UnsupportedFormat",
    "UnsupportedParameter",
    "WorkerDied",
    "WorkerHung",
    "gib",
]
