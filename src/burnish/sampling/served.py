"""A policy on a server of its base: its adapter goes there before answers are drawn, under the name of its content.

An adapter that is loaded again under its old name may be answered from what the server kept of the old one. Under the
hash of its own files it cannot be: two policies have two names. The server is vLLM, or one with its two routes for
adapters, and reads the folder that they are written to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from burnish.errors import SamplingError
from burnish.models.language import LanguageModel
from burnish.sampling.endpoint import WAIT, Refused, Unanswered, ask, client_of
from burnish.sampling.remote import ATTEMPTS, RemoteSampler
from burnish.store.hashing import digest_of

URL, KEY = "BURNISH_SAMPLER_URL", "BURNISH_SAMPLER_KEY"
TIMEOUT = 600.0
START = "run it with --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and a --max-lora-rank of adapt.rank or more"


@dataclass
class Served:
    """The server that the host names; ``folder`` is where adapters lie while it uses them."""

    folder: Path
    url: str
    key: str | None = field(default=None, repr=False)
    wait: float = WAIT
    loaded: str | None = None

    @classmethod
    def of_host(cls, folder: Path) -> Served:
        """The server of ``BURNISH_SAMPLER_URL``, as http://host:8000/v1.

        Raises:
            SamplingError: It names none, or none that is reached by HTTP.
        """
        url = os.environ.get(URL, "").rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise SamplingError(
                f'rl.sampler = "server" needs {URL}, which is {url!r}',
                mend=f"{URL}=http://host:8000/v1 burnish run ...",
            )
        return cls(folder, url, os.environ.get(KEY) or None)

    def sampler(self, policy: LanguageModel) -> RemoteSampler:
        """What draws the answers of the policy as it is now; the adapter that was there before is taken away.

        Raises:
            SamplingError: The policy is no plain LoRA on its base, or the server does not take its adapter.
        """
        if policy.lora is None or policy.lora.method == "dora" or policy.changed:
            raise SamplingError(
                "a server takes LoRA adapters of its base, and this policy is something else",
                mend='train with adapt.method = "lora" or "rslora", or take rl.sampler out',
            )
        files = policy.files()
        digests = {part: hashlib.sha256(data).hexdigest() for part, data in files.items()}
        name = f"burnish-{digest_of(dict(digests))[:32]}"
        if name != self.loaded:
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)
            for part, data in files.items():
                (place / part).write_bytes(data)
            with client_of(self.key, TIMEOUT) as client:
                self._say(client, "load_lora_adapter", {"lora_name": name, "lora_path": str(place.absolute())})
                if self.loaded is not None:
                    self._say(client, "unload_lora_adapter", {"lora_name": self.loaded})
            if self.loaded is not None:
                shutil.rmtree(self.folder / self.loaded, ignore_errors=True)
            self.loaded = name
        return RemoteSampler(self.url, name, self.key, wait=self.wait)

    def _say(self, client: httpx.Client, route: str, body: dict[str, str]) -> None:
        try:
            ask(client, f"{self.url}/{route}", dict(body), self.url, lambda response: None, ATTEMPTS, self.wait)
        except Refused as error:
            if "already been loaded" not in str(error):  # before a run was killed: the same name is the same content
                raise SamplingError(f"{error}", mend=START) from error
        except Unanswered as error:
            raise SamplingError(str(error), mend="see that the server runs, and run again") from error
