"""Settings: their sources, their bounds, and combinations that are rejected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from service.schema.api_keys import ApiKey
from service.schema.people import Principal
from service.settings import ENV_PREFIX, MIB, Settings, is_loopback

KEY, OTHER_KEY = "key-of-16-chars.", "another-key-of-24-letters"


@pytest.fixture(autouse=True)
def _unset_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{ENV_PREFIX}{name.upper()}", raising=False)


def keys(settings: Settings) -> list[str]:
    return [key.get_secret_value() for key in settings.api_keys]


def test_defaults_are_safe_and_consistent() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == ()
    assert settings.max_body_bytes == 256 * MIB
    assert settings.max_queued_bytes >= settings.max_body_bytes


def test_every_setting_has_a_default_and_a_description() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert not field.is_required(), name


class TestSources:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("HOST", "127.0.0.2", "127.0.0.2"),
            ("PORT", "0", 0),
            ("DEVICE", "cpu", "cpu"),
            ("MAX_BODY_BYTES", "1000", 1000),
            ("BODY_TIMEOUT_S", "2.5", 2.5),
            ("LOG_FORMAT", "json", "json"),
        ],
    )
    def test_environment_variable(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any) -> None:
        monkeypatch.setenv(ENV_PREFIX + name, text)
        assert getattr(Settings(), name.lower()) == value

    def test_argument_overrides_environment_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}PORT", "9000")
        monkeypatch.setenv(f"{ENV_PREFIX}WORKERS", "3")
        settings = Settings(port=9100)
        assert (settings.port, settings.workers) == (9100, 3)

    def test_invalid_environment_variable_is_rejected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}PORT", "http")
        with pytest.raises(ValidationError, match="port"):
            Settings()

    def test_unknown_argument_is_rejected(self) -> None:
        with pytest.raises(ValidationError, match="prot"):
            Settings(prot=1)  # type: ignore[call-arg]

    def test_settings_are_frozen(self) -> None:
        settings = Settings()
        with pytest.raises(ValidationError, match="frozen"):
            settings.port = 1  # type: ignore[misc]


class TestKeys:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (KEY, [KEY]),
            (f"{KEY},{OTHER_KEY}", [KEY, OTHER_KEY]),
            (f" {KEY} ,, {OTHER_KEY} ,", [KEY, OTHER_KEY]),
            ("", []),
        ],
    )
    def test_comma_separated_keys(self, monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}API_KEYS", text)
        assert keys(Settings()) == expected

    def test_tuple_of_keys(self) -> None:
        assert keys(Settings(api_keys=(SecretStr(KEY),))) == [KEY]

    @pytest.mark.parametrize("text", [",,,", " ", " , ", "\t"])
    def test_a_text_without_a_key_is_rejected(self, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}API_KEYS", text)
        with pytest.raises(ValidationError, match="names no key"):
            Settings()

    @pytest.mark.parametrize(
        ("unsafe", "fault"),
        [
            ("s" * 15, "fewer than 16 characters"),
            ("a" * 16, "fewer than 6 different characters"),
            ("abcde" * 10, "fewer than 6 different characters"),
            ("a key with spaces inside", "not printable ASCII"),
            ("a-key-with-a-tab\t-inside", "not printable ASCII"),
            ("schl\u00fcssel-mit-umlaut", "not printable ASCII"),
            ("a-key-with-a-control\x85", "not printable ASCII"),
            ("a-key-with-a-null\0-inside", "not printable ASCII"),
            ("kim:short", "fewer than 16 characters"),
            ("kim:chief:a-key-of-twenty-four-letters", "another role than reader, reviewer, owner"),
            ("kim:owner:a:b-key-of-twenty-four-letters", "more than two colons"),
            ("k\u00edm:a-key-of-twenty-four-letters", "has a name that is not"),
            (":a-key-of-twenty-four-letters", "has a name that is not"),
            (f"kim:{KEY}", "another name or role"),
        ],
    )
    def test_an_unsafe_key_is_named_by_its_number_only(self, tmp_path: Path, unsafe: str, fault: str) -> None:
        file = tmp_path / "keys"
        file.write_text(f"{KEY}\n{unsafe}\n")
        for settings in ({"api_keys": (SecretStr(KEY), SecretStr(unsafe))}, {"api_keys_file": str(file)}):
            with pytest.raises(ValidationError) as caught:
                Settings(**settings)  # type: ignore[arg-type]
            assert "key 2 " in str(caught.value)
            assert fault in str(caught.value)
            assert unsafe not in str(caught.value)

    def test_a_key_may_have_a_name_and_a_role(self) -> None:
        other = "another-key-of-thirty-letters"
        settings = Settings(api_keys=f"{KEY},kim:{other},li@x.org:reviewer:{OTHER_KEY}")  # type: ignore[arg-type]
        assert settings.named_keys == (
            ApiKey(KEY, Principal(None, "owner")),
            ApiKey(other, Principal("kim", "owner")),
            ApiKey(OTHER_KEY, Principal("li@x.org", "reviewer")),
        )

    def test_keys_of_a_file_are_added(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text(f"# The key of the notebooks\n{KEY}\n\n  {OTHER_KEY}  \r\n#x\n")
        assert keys(Settings(api_keys_file=str(file))) == [KEY, OTHER_KEY]
        assert keys(Settings(api_keys=(SecretStr(OTHER_KEY),), api_keys_file=str(file))) == [OTHER_KEY, KEY]
        assert Settings(host="0.0.0.0", api_keys_file=str(file)).host == "0.0.0.0"

    @pytest.mark.parametrize(
        ("content", "fault"), [(None, "cannot be read"), (b"# none\n\n", "has no keys"), (b"\xff", "cannot")]
    )
    def test_a_file_without_keys_is_rejected(self, tmp_path: Path, content: bytes | None, fault: str) -> None:
        file = tmp_path / "keys"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ValidationError, match=fault):
            Settings(api_keys_file=str(file))

    def test_keys_are_not_printed(self) -> None:
        secret = "whsec_c2VjcmV0LW9mLXRlc3RzLTAx"
        settings = Settings(api_keys=(SecretStr(KEY),), argilla_webhook_secret=SecretStr(secret))
        for text in (repr(settings), str(settings.model_dump())):
            assert KEY not in text
            assert secret not in text


class TestHost:
    LOOPBACK = ("127.0.0.1", "127.255.255.254", "::1", "localhost")
    REACHABLE = (
        "0.0.0.0",
        "::",
        "192.168.1.5",
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "example.com",
        "localhost.evil.example",
        "",
    )

    @pytest.mark.parametrize("host", LOOPBACK)
    def test_loopback_needs_no_keys(self, host: str) -> None:
        assert is_loopback(host)
        assert Settings(host=host).host == host

    @pytest.mark.parametrize("host", REACHABLE)
    def test_any_other_address_needs_keys(self, host: str) -> None:
        assert not is_loopback(host)
        with pytest.raises(ValidationError) as caught:
            Settings(host=host)
        assert f"{ENV_PREFIX}API_KEYS" in str(caught.value)
        assert Settings(host=host, api_keys=(SecretStr(KEY),)).host == host

    def test_an_empty_variable_means_no_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}HOST", "0.0.0.0")
        monkeypatch.setenv(f"{ENV_PREFIX}API_KEYS", "")
        with pytest.raises(ValidationError, match="set api_keys"):
            Settings()


class TestBrowsersAndProxies:
    @pytest.mark.parametrize(
        ("name", "text", "values"),
        [
            ("allowed_hosts", "Focal.Example, lab_1,fe80::1", ("focal.example", "lab_1", "fe80::1")),
            ("allowed_hosts", "", ()),
            (
                "cors_origins",
                "http://localhost:8888,https://Lab.example",
                ("http://localhost:8888", "https://lab.example"),
            ),
            ("cors_origins", "vscode-webview://abc", ("vscode-webview://abc",)),
            ("forwarded_allow_ips", "10.0.0.4, 10.1.0.0/16,::1", ("10.0.0.4", "10.1.0.0/16", "::1")),
            ("forwarded_allow_ips", "10.0.0.4,*", ("*",)),
            ("forwarded_allow_ips", "", ()),
        ],
    )
    def test_lists(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str, values: tuple[str, ...]) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", text)
        assert getattr(Settings(), name) == values

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("allowed_hosts", "focal.example:8000"),
            ("allowed_hosts", "*"),
            ("allowed_hosts", "*.example"),
            ("allowed_hosts", "http://focal.example"),
            ("cors_origins", "*"),
            ("cors_origins", "null"),
            ("cors_origins", "lab.example"),
            ("cors_origins", "https://lab.example/"),
            ("cors_origins", "https://*.example"),
            ("argilla_webhook_secret", "no base64"),
            ("argilla_webhook_secret", "whsec_c2hvcnQ="),
            ("forwarded_allow_ips", "proxy"),
            ("forwarded_allow_ips", "10.0.0.1/8"),
            ("root_path", "focal"),
            ("root_path", "/focal/"),
            ("root_path", "/"),
            ("root_path", "//evil.example"),
        ],
    )
    def test_invalid_values(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
        monkeypatch.setenv(f"{ENV_PREFIX}{name.upper()}", text)
        with pytest.raises(ValidationError, match=name):
            Settings()


class TestBounds:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("port", -1),
            ("port", 65_536),
            ("device", "gpu"),
            ("device", "cuda:"),
            ("device", "cuda:-1"),
            ("device", "cuda:0\n"),
            ("device", "CPU"),
            ("workers", 0),
            ("workers", 65),
            ("queue_size", 0),
            ("max_body_bytes", 0),
            ("max_queued_bytes", 0),
            ("max_kept_bytes", -1),
            ("max_elements", 0),
            ("max_examples", 0),
            ("max_configs", 0),
            ("max_head_bytes", 1023),
            ("head_timeout_s", 0),
            ("head_timeout_s", float("nan")),
            ("body_timeout_s", 0),
            ("body_timeout_s", -1),
            ("body_timeout_s", float("nan")),
            ("drain_delay_s", -0.1),
            ("drain_timeout_s", -1),
            ("log_level", "trace"),
            ("log_format", "xml"),
        ],
    )
    def test_error_names_the_setting_out_of_range(self, name: str, value: Any) -> None:
        with pytest.raises(ValidationError) as caught:
            Settings(**{name: value})
        assert re.search(rf"^{name}$", str(caught.value), re.MULTILINE)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("port", 65_535),
            ("device", "cuda:12"),
            ("device", "cuda"),
            ("workers", 64),
            ("queue_size", 1),
            ("max_body_bytes", 1),
            ("max_configs", 1),
            ("max_head_bytes", 1024),
            ("drain_delay_s", 0),
            ("drain_timeout_s", 0),
        ],
    )
    def test_ends_of_the_ranges_are_accepted(self, name: str, value: Any) -> None:
        assert getattr(Settings(**{name: value}), name) == value

    def test_max_queued_bytes_below_max_body_bytes_is_rejected(self) -> None:
        assert Settings(max_body_bytes=1000, max_queued_bytes=1000).max_queued_bytes == 1000
        with pytest.raises(ValidationError, match=r"max_queued_bytes \(999\) is below max_body_bytes \(1000\)"):
            Settings(max_body_bytes=1000, max_queued_bytes=999)
