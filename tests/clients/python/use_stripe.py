"""Stripe's library, as its documentation shows it. Called by the tests."""

import os

import stripe
from common import main, say

stripe.api_key = os.environ["STRIPE_API_KEY"]
stripe.api_base = os.environ["STRIPE_API_BASE"]


def create():
    say(text=stripe.Customer.create(email="a@example.com").email)


def pages():
    for customer in stripe.Customer.list(limit=2).auto_paging_iter():
        say(text=customer.id)


main(create=create, pages=pages)
