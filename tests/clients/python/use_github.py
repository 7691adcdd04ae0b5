"""PyGithub, as its documentation shows it. Called by the tests."""

import os

from common import main, say
from github import Auth, Github

# It would wait and try again by itself where it is refused.
client = Github(auth=Auth.Token(os.environ["GITHUB_TOKEN"]), retry=None)


def user():
    say(text=client.get_user().login)


def issues():
    for issue in client.get_repo("agent/lib", lazy=True).get_issues():
        say(text=issue.title)


main(user=user, issues=issues)
