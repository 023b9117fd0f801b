"""Why a request has failed, in one line, read from the errors of obstore and of the stores."""

from __future__ import annotations

import re

from ...errors import escape

__all__ = ["is_lost", "names_no_bucket", "reason", "refuses_key", "refuses_request"]

# What is wrong, by the code that a store answers.
_HINTS = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "no bucket can have this name",
    "ContainerNotFound": "there is no such container",
    "AccessDenied": "these credentials may not do this",
    "InvalidAccessKeyId": "the credentials are wrong: this access key is not known",
    "SignatureDoesNotMatch": "the credentials are wrong: check the secret key",
    "ExpiredToken": "the credentials have expired",
    "TokenRefreshRequired": "the credentials have expired",
    "InvalidToken": "the credentials are wrong: check the session token",
    "AuthorizationHeaderMalformed": "the region is wrong: set AWS_REGION",
    "PermanentRedirect": "the region or the endpoint is wrong: set AWS_REGION",
    "RequestTimeTooSkewed": "the clock of this machine differs too much from the store's",
    "SlowDown": "the store is asked for too much at once",
    "AuthenticationFailed": "the credentials are wrong: check the key or the token",
    "AuthorizationFailure": "these credentials are wrong, or may not do this from here",
    "AuthorizationPermissionMismatch": "these credentials may not do this",
    "ServerBusy": "the store is asked for too much at once",
}
# What is wrong with a certificate, by how the names of such errors begin.
_CERTIFICATES = (
    ("UnknownIssuer", "is from an authority that is not trusted: set SSL_CERT_FILE"),
    ("NotValidForName", "is for another name"),
    ("Expired", "has expired"),
    ("NotValidYet", "is not valid yet"),
)
# The last is what Azure says in the answer to a delete.
_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|container does not exist")
_STATUS = {"301": "PermanentRedirect", "401": "AccessDenied", "403": "AccessDenied"}


def names_no_bucket(error: Exception) -> bool:
    """Tell whether what is not found is the bucket itself, not an object in it."""
    return _NO_BUCKET.search(str(error)) is not None


def is_lost(error: Exception) -> bool:
    """Tell whether there was no answer, or half of one."""
    return "HTTP error: " in str(error).partition("\n")[0] and "builder error" not in str(error)


def refuses_key(error: Exception) -> bool:
    """Tell whether obstore refuses a listing because of one of its keys."""
    return "Encountered object with invalid path" in str(error)


def refuses_request(error: Exception) -> bool:
    """Tell whether the store has refused a request as a whole, whoever sends it."""
    return re.search(r"status code: (400|405|411|501)\b", str(error)) is not None


def reason(error: Exception) -> str:
    """Say in one line what went wrong, without what the store was sent."""
    text = str(error)
    if told := re.search(r"credential provider: StoreError: (.*)", text):  # by our own
        return told[1]
    if "http://169.254.169.254/" in text:  # where virtual machines ask for theirs
        return "no credentials are found, neither in the environment nor with this machine"
    if "Invalid Access Key" in text:
        return "the credentials are wrong: the key is not in Base64"
    if lacking := re.search(r"Missing (SecretAccessKey|AccessKeyId)", text):
        there, absent = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        if lacking[1] == "AccessKeyId":
            there, absent = absent, there
        return f"the credentials are incomplete: there is {there}, and no {absent}"
    if "invalid domain character" in text:
        return "no bucket can have this name"
    if certificate := re.search(r"InvalidCertificate\(\s*(\w+)", text):
        server = re.search(r"https://[^/\s?]+", text)
        said = next((said for name, said in _CERTIFICATES if certificate[1].startswith(name)), "")
        what = said or f"cannot be used ({certificate[1]})"
        return f"the certificate of {server[0] if server else 'the store'} {what}"
    status = re.search(r"status code: ((\d{3})[\w ]*)", text)
    # The second form is that of an answer about one key among several.
    code = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
    name = (code[1] or code[2]) if code else status[2] if status else ""
    name = "ContainerNotFound" if "container does not exist" in text else _STATUS.get(name, name)
    if name in _HINTS:
        return f"{_HINTS[name]} ({name})"
    if status:
        named = "" if name == status[2] else f" ({name})"
        return f"the store answers {status[1].strip()}{named}"
    if name:
        return f"the store answers {name}"
    if is_lost(error):
        # obstore has the cause only in what it prints for debugging.
        server = re.search(r"https?://[^/\s?]+", text)
        cause = re.search(r'(?:message|error): "([^"]+)"', text)
        why = cause[1] if cause else "no answer in time" if "TimedOut" in text else "it broke off"
        place = f"the store at {server[0]}" if server else "the store"
        return f"{place} does not answer: {escape(why)}"
    return escape(text.partition("\n")[0].partition("<")[0].strip())
