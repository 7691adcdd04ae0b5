"""Stripe's library, as its documentation shows it; a base URL, where there is one, is given in code. It trusts a bundle of
its own and heeds no variable, so through the proxy it is told which one. Called by the tests."""

import os

import stripe
from common import main, say

stripe.api_key = os.environ["STRIPE_API_KEY"]
if "STRIPE_API_BASE" in os.environ:
    stripe.api_base = os.environ["STRIPE_API_BASE"]
else:
    stripe.ca_bundle_path = os.environ["SSL_CERT_FILE"]


def create():
    say(text=stripe.Customer.create(email="a@example.com").email)


def pages():
    for customer in stripe.Customer.list(limit=2).auto_paging_iter():
        say(text=customer.id)


main(create=create, pages=pages)
