"""Make a bucket if it is not there: ``make_bucket.py NAME``. Store and keys come from the AWS variables of the environment."""

from __future__ import annotations

import sys

import boto3
from botocore.exceptions import ClientError


def make_bucket(name: str) -> None:
    """Make the bucket ``name``, or leave it as it is.

    Raises:
        ClientError: the store refuses.
    """
    store = boto3.client("s3")
    try:
        store.head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
            raise
        store.create_bucket(Bucket=name)


if __name__ == "__main__":
    make_bucket(sys.argv[1])
