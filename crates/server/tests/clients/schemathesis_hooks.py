"""What schemathesis cannot know: most requests name the model that is there, so that they get further than its name."""
import schemathesis


@schemathesis.hook
def map_body(context, body):
    # One in four keeps what was made up.
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 4 != 3:
        body["model"] = "stories260k"
    return body
