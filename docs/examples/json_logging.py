import logging

from pythonjsonlogger.json import JsonFormatter

handler = logging.StreamHandler()
handler.setFormatter(JsonFormatter("{asctime}{levelname}{message}", style="{"))
logging.basicConfig(level=logging.INFO, handlers=[handler])
