"""Primitives of person names, emails, phone numbers, URLs and file paths."""

from __future__ import annotations

from .parse import name_parts, phone_groups, url_parts
from .primitive import Primitive, primitive


def _person() -> list[Primitive]:
    k = "person"
    return [
        primitive("person_first", lambda s: name_parts(s)[0], """extract the first name from {x}|give the given name in {x}|return only the first name of {x}|take the forename out of {x}|what is the first name in {x}|keep just the given name of {x}|get the first name of {x}|pick the forename from {x}""", kind=k),
        primitive("person_last", lambda s: name_parts(s)[1], """extract the last name from {x}|give the surname in {x}|return only the family name of {x}|take the surname out of {x}|what is the last name in {x}|keep just the family name of {x}|get the last name of {x}|pick the surname from {x}""", kind=k),
        primitive("person_initials", lambda s: ".".join(p[0] for p in name_parts(s)) + ".", """write the initials of {x}|abbreviate {x} to initials|give the two initials of {x} with dots|turn {x} into initials|reduce {x} to its initials|get the initials from {x}|shorten both parts of {x} to one letter each|make initials out of {x}""", kind=k),
        primitive("person_last_first", lambda s: "{1}, {0}".format(*name_parts(s)), """write {x} as last name, comma, first name|put the surname first in {x}, then a comma and the forename|format {x} like Lopez, Maria|reorder {x} so that the family name comes first with a comma|list {x} surname first|turn {x} into the catalog form with the last name in front|rewrite {x} in the order last name, first name|give {x} in the form surname, given name""", kind=k),
        primitive("person_first_last", lambda s: "{0} {1}".format(*name_parts(s)), """write {x} as first name then last name|put the forename first in {x} without a comma|format {x} like Maria Lopez|reorder {x} so that the given name comes first|give {x} in natural order|turn {x} into first name, space, surname|rewrite {x} in the order first name, last name|normalize {x} to given name and surname""", kind=k),
        primitive("person_abbrev_first", lambda s: "{0}. {1}".format(name_parts(s)[0][0], name_parts(s)[1]), """abbreviate the first name in {x} and keep the surname|write {x} with only the initial of the first name|shorten the forename of {x} to its initial|format {x} like M. Lopez|give {x} as initial and last name|cut the given name in {x} down to one letter and a dot|turn {x} into first initial plus surname|reduce the first name of {x} to an initial""", kind=k),
        primitive("person_abbrev_last", lambda s: "{0} {1}.".format(name_parts(s)[0], name_parts(s)[1][0]), """abbreviate the last name in {x} and keep the first name|write {x} with only the initial of the surname|shorten the family name of {x} to its initial|format {x} like Maria L.|give {x} as first name and last initial|cut the surname in {x} down to one letter and a dot|turn {x} into first name plus surname initial|reduce the last name of {x} to an initial""", kind=k),
        primitive("person_login", lambda s: (name_parts(s)[0][0] + name_parts(s)[1]).lower(), """make a login from {x}: first initial and surname in lowercase|build a username out of {x} with the first letter and the last name|turn {x} into a user id like mlopez|derive an account name from {x}|create a login name for {x} from initial plus surname|write {x} as a short username|form a user name of {x}: initial then family name, lowercase|generate the login of {x}""", kind=k),
    ]  # fmt: skip


def _email() -> list[Primitive]:
    k = "email"
    return [
        primitive("email_user", lambda s: s.split("@")[0], """extract the user name of {x}|give the part of {x} before the at sign|return the local part of {x}|take what stands before @ in {x}|keep only the mailbox name of {x}|get the account name from {x}|drop the @ and the domain from {x}|pick the user part out of {x}""", kind=k),
        primitive("email_domain", lambda s: s.split("@")[1], """extract the domain of {x}|give the part of {x} after the at sign|return the domain name of {x}|take what stands behind @ in {x}|keep only the mail server of {x}|get the domain from {x}|drop the user and the @ from {x}|pick the domain part out of {x}""", kind=k),
        primitive("email_tld", lambda s: s.rsplit(".", 1)[1], """extract the top-level domain of {x}|give the ending of {x} after the last dot|return the TLD of {x}|take what stands behind the last dot of {x}|keep only the final domain label of {x}|get the domain ending from {x}|show whether {x} is com, org or something else|pick the top level domain out of {x}""", kind=k),
        primitive("email_company", lambda s: s.split("@")[1].split(".")[0], """extract the company name from {x}|give the provider in {x} without the ending|return the organization of {x}|take the domain of {x} without its ending|keep only the company of {x}|get the site name between @ and the dot in {x}|find the employer in {x}|pick the organization out of {x}""", kind=k),
        primitive("email_mask", lambda s: "***@" + s.split("@")[1], """hide the user name of {x} behind three stars|mask the part of {x} before the at sign|replace the local part of {x} with ***|anonymize {x} but keep the domain|censor the mailbox name in {x}|cover the account name of {x} with ***|protect {x} by starring out the user|show {x} with *** for the user""", kind=k),
        primitive("email_at", lambda s: s.replace("@", " at "), """spell the @ of {x} as at|replace the at sign in {x} with the word at|write {x} with " at " for @|obfuscate {x} by writing at in words|turn the @ in {x} into at with spaces|make {x} safe from robots with the word at|put at in place of the @ in {x}|say at instead of @ in {x}""", kind=k),
    ]  # fmt: skip


def _phone() -> list[Primitive]:
    k = "phone"
    return [
        primitive("phone_last_group", lambda s: phone_groups(s)[-1], """extract the last group of digits of {x}|give the final block of {x}|return the line number at the end of {x}|take the last four digits of {x}|keep only the closing block of {x}|get the ending group from {x}|show the last digit group of {x}|pick the last block out of {x}""", kind=k),
        primitive("phone_first_group", lambda s: phone_groups(s)[0], """extract the first group of digits of {x}|give the leading block of {x}|return the area or country code of {x}|take the code at the start of {x}|keep only the opening block of {x}|get the dialing code from {x}|show the first digit group of {x}|pick the first block out of {x}""", kind=k),
        primitive("phone_dots", lambda s: ".".join(phone_groups(s)), """write {x} with dots between the groups|join the blocks of {x} with dots|format {x} like 415.555.0132|separate the groups of {x} by periods|turn {x} into the dotted form|use dots as separators in {x}|put a dot between the digit groups of {x}|rewrite {x} in dot notation""", kind=k),
        primitive("phone_dashes", lambda s: "-".join(phone_groups(s)), """write {x} with dashes between the groups|join the blocks of {x} with hyphens|format {x} like 415-555-0132|separate the groups of {x} by dashes|turn {x} into the dashed form|use hyphens as separators in {x}|put a dash between the digit groups of {x}|rewrite {x} in dash notation""", kind=k),
        primitive("phone_mask", lambda s: "***-" + phone_groups(s)[-1], """hide {x} except for the last group|mask {x} as *** and the last block|replace all but the final group of {x} with ***-|anonymize {x} down to its last four digits|censor {x} but show the last block|cover {x} with stars up to the last group|protect {x}, leaving the final block after ***-|show {x} as three stars, a dash and the last group""", kind=k),
        primitive("phone_tel", lambda s: "tel:" + "".join(phone_groups(s)), """turn {x} into a tel: link|write {x} as tel: and its digits|make a clickable tel link of {x}|format {x} as a tel URI|give the tel: form of {x}|convert {x} to a telephone link|rewrite {x} as tel: followed by the digits|produce a dial link from {x}""", kind=k),
    ]  # fmt: skip


def _url() -> list[Primitive]:
    k = "url"
    return [
        primitive("url_host", lambda s: url_parts(s)[1], """extract the host of {x}|give the server name in {x}|return the full host name of {x}|take the part of {x} between // and the next slash|keep only the host of {x}|get the hostname from {x}|show which server {x} points to|pick the host out of {x}""", kind=k),
        primitive("url_scheme", lambda s: url_parts(s)[0], """extract the scheme of {x}|give the protocol of {x}|return whether {x} is http or https|take the part of {x} before ://|keep only the protocol of {x}|get the URL scheme from {x}|show the protocol that {x} uses|pick the scheme out of {x}""", kind=k),
        primitive("url_path", lambda s: "/" + url_parts(s)[2], """extract the path of {x}|give the path on the server in {x}|return the path part of {x} with its slash|take what follows the host in {x}, without the query|keep only the path of {x}|get the URL path from {x}|show the path that {x} names|pick the path portion out of {x}""", kind=k),
        primitive("url_page", lambda s: url_parts(s)[2].split("/")[-1], """extract the last path segment of {x}|give the page name in {x}|return the final segment of {x} without the query|take the last part of the path in {x}|keep only the page of {x}|get the slug at the end of {x}|show the last segment of {x}|pick the page name out of {x}""", kind=k),
        primitive("url_site", lambda s: url_parts(s)[1].split(".")[1], """extract the site name of {x}|give the brand in {x}|return the domain of {x} without subdomain and ending|take the middle label of the host in {x}|keep only the site of {x}|get the company from {x}|show which site {x} belongs to|pick the site name out of {x}""", kind=k),
        primitive("url_bare", lambda s: s.split("://")[1], """drop the scheme from {x}|write {x} without http or https|remove the protocol of {x}|strip :// and what stands before it from {x}|show {x} without its protocol|cut the scheme off {x}|give {x} starting at the host|delete the leading protocol of {x}""", kind=k),
    ]  # fmt: skip


def _path() -> list[Primitive]:
    k = "path"
    return [
        primitive("path_name", lambda s: s.split("/")[-1], """extract the file name of {x}|give the base name of {x}|return the last part of {x}|take the name with extension out of {x}|keep only the file of {x}|get the filename from {x}|drop the folders from {x}|pick the file name out of {x}""", kind=k),
        primitive("path_stem", lambda s: s.split("/")[-1].split(".")[0], """extract the file name of {x} without extension|give the stem of {x}|return the bare file name of {x}|take the name between the last slash and the dot in {x}|keep only the stem of {x}|get the name without ending from {x}|drop the folders and the extension from {x}|pick the stem out of {x}""", kind=k),
        primitive("path_extension", lambda s: s.split(".")[-1], """extract the extension of {x}|give the file type of {x}|return the file ending of {x}|take what stands behind the dot in {x}|keep only the extension of {x}|get the suffix of the file from {x}|show which type of file {x} is|pick the extension out of {x}""", kind=k),
        primitive("path_folder", lambda s: s.rsplit("/", 1)[0], """extract the folder of {x}|give the directory of {x}|return the path of {x} without the file|take everything before the last slash of {x}|keep only the directory part of {x}|get the parent path from {x}|drop the file name from {x}|pick the directory out of {x}""", kind=k),
        primitive("path_parent", lambda s: s.split("/")[-2], """extract the name of the folder that holds the file in {x}|give the innermost folder of {x}|return the last directory name of {x}|take the folder right before the file in {x}|keep only the parent folder's name of {x}|get the containing folder from {x}|show in which folder the file of {x} lies|pick the nearest folder out of {x}""", kind=k),
        primitive("path_bak", lambda s: s.rsplit(".", 1)[0] + ".bak", """change the extension of {x} to bak|give {x} the ending .bak|rename {x} to a .bak file|replace the file type of {x} with bak|turn {x} into a backup path ending in .bak|swap the extension of {x} for bak|make {x} end in .bak instead|set the suffix of {x} to bak""", kind=k),
    ]  # fmt: skip


def name_primitives() -> list[Primitive]:
    """Primitives of person names, emails, phone numbers, URLs and paths."""
    return [*_person(), *_email(), *_phone(), *_url(), *_path()]
