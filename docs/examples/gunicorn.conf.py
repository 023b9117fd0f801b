import json
import logging

bind = "127.0.0.1:8434"
workers = 2
threads = 8

FIELDS = ("error", "status", "method", "path", "content_length", "remote", "proto", "query")
FIELDS += ("model", "action", "user")


class JSONFormatter(logging.Formatter):
    def format(self, record):
        line = {"time": self.formatTime(record), "level": record.levelname}
        line["message"] = record.getMessage()
        line |= {field: getattr(record, field) for field in FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["cause"] = self.formatException(record.exc_info)
        return json.dumps(line)


handler = logging.StreamHandler()
handler.setFormatter(JSONFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])
