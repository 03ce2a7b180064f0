# Extracts the successful GETs from Amazon S3 server access log records and accounts for every record.
#
# Reads standard input only, so that no file name ever reaches awk:
#   first record   TOKEN                    random, drawn anew for each process: no log line can pass for a command
#   \036TOKEN N                             log file number N starts; its records follow
#   \036TOKEN -                             report what is finished, and flush
# Every record ends in a newline. One over 16 MiB comes cut, with a control byte at its end: it is still over 16 MiB.
#
# Writes to standard output a row per extracted record, columns divided by one blank:
#   YYYY-MM-DDThh:mm:ss  +0000]  address  requester  request-id  operation  key  (empty, or `-` for no URI)
#   status  error  bytes  size  total-ms  turn-around-ms  (empty)
# and at each report, in the files' order, so that the counts tell which rows are whose:
#   \036R file record reason                the first REPORTED rejected records of a file
#   \036C file records extracted blank operation status too_long head time ip key request ambiguous tail
#   \036.                                   end of the report
# Excluded addresses and duplicates need more than one record's view and are counted by the caller.
#
# Run it as `LC_ALL=C gawk --characters-as-bytes`: a character is a byte here.
#
# Most records hold exactly six quotes, so that with FS = "\"" they have seven fields and one reading:
#   $1 head and key  $2 request-URI  $3 numbers  $4 referer  $5 blank  $6 user agent  $7 tail
# These take the fast path in the main rule; so do records with more quotes in the URI where only one place can be its
# end, and those with `-` for a request-URI (five fields). Any other record goes to strict(), which tries every place
# where the URI may end and refuses a record that can be read in two ways; it takes ten times as long.

BEGIN {
    FS = "\""; OFS = ""
    REPORTED = 20
    LONGEST = 16777216
    WINDOW = 65536
    MARGIN = 256                 # no numbers block is longer: status, error code, four numbers, blanks

    token = "[!#-~]+"            # printable ASCII but the quote
    octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    ipv4 = octet "(\\." octet "){3}"
    h = "[0-9A-Fa-f]{1,4}"
    # RFC 4291: eight groups; or fewer around one "::"; the last two may be written as IPv4.
    ipv6 = "((" h ":){7}" h "|(" h ":){6}" ipv4 \
        "|(" h ":){1,7}:|(" h ":){1,6}:" h "|(" h ":){1,5}(:" h "){2}|(" h ":){1,4}(:" h "){3}" \
        "|(" h ":){1,3}(:" h "){4}|(" h ":){1,2}(:" h "){5}|" h ":(:" h "){6}|:((:" h "){1,7}|:)" \
        "|::(" h ":){0,5}" ipv4 "|" h "::(" h ":){0,4}" ipv4 "|(" h ":){2}:(" h ":){0,3}" ipv4 \
        "|(" h ":){3}:(" h ":){0,2}" ipv4 "|(" h ":){4}:(" h ":)?" ipv4 "|(" h ":){5}:" ipv4 ")"
    address = "(-|" ipv4 "|" ipv6 ")"
    ADDRESS = "^" address "$"
    clock = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    CLOCK = "^" clock "$"
    operation = "[A-Z][A-Z0-9]*(\\.[A-Za-z0-9_]+)+"

    since_clock = "^" clock " \\+0000\\] " address
    GET = since_clock " " token " " token " REST\\.GET\\.OBJECT " token " $"
    EMPTY_REQUESTER = "^ " token " " operation "( |$)"
    DOUBLED = since_clock "  (" token " )?" token " REST\\.GET\\.OBJECT " token " $"
    # Any operation that is at a glance not REST.GET.OBJECT; what is matched ends with it, whatever the key is.
    OTHER = since_clock " " token " " token " (REST\\.[A-FH-Z][A-Z0-9]*(\\.[A-Za-z0-9_]+)+|REST\\.GET\\.([A-NP-Z][A-Za-z0-9_]*|OBJECT_[A-Za-z0-9_]+)" \
        "|([A-QS-Z][A-Z0-9]*|R[A-DF-Z0-9][A-Z0-9]*)(\\.[A-Za-z0-9_]+)+) "
    PREFIX = "^" token " " token " \\[$"
    HEAD = "^" token " " token " \\[[^]]*\\] " token " (" token " | (" token " )?)" token " " operation "( |$)"

    number = "(-|[0-9]{1,18})"
    numbers = "(-|[A-Za-z][A-Za-z0-9_.]{0,99}) " number " " number " " number " " number
    BLOCK = "^ (-|[1-5][0-9][0-9]) " numbers
    WHOLE_BLOCK = BLOCK " $"
    BARE_SUCCESS = since_clock " " token " " token " REST\\.GET\\.OBJECT " token " - 2[0-9][0-9] " numbers " $"
    FAST_SUCCESS = "^ 2[0-9][0-9] " numbers " $"
    FAST_OTHER = "^ (-|[1345][0-9][0-9]) " numbers " $"
    TAIL = "^( " token ")+$"
    BARE_AGENT_TAIL = "^ -( " token ")+$"
    BARE_BOTH_TAIL = "^ - -( " token ")+$"
    # Not a tail, or one that could pass for a numbers block. Stated as what must not occur: dfa matching takes a
    # seventh of the time per byte while nothing has begun to match, so a good tail must begin as little as it can.
    NOT_FAST_TAIL = "^$|[^ -~]|  | $|^[^ ]|^ (-|[1-5][0-9][0-9]) (-|[A-Za-z][A-Za-z0-9_.]*)( (-|[0-9]+)){4}( |$)"

    # Well-formed UTF-8 beyond ASCII: Unicode Standard, table 3-7.
    more = "[\200-\277]"
    KEY = "^([!#-~]|[\302-\337]" more "|\340[\240-\277]" more "|[\341-\354\356\357]" more more \
        "|\355[\200-\237]" more "|\360[\220-\277]" more more "|[\361-\363]" more more more \
        "|\364[\200-\217]" more more ")+$"

    split("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec", names, " ")
    split("31 29 31 30 31 30 31 31 30 31 30 31", days, " ")
    for (i in names) month[names[i]] = i
    known = "\n"                 # no record holds a newline, so nothing starts with this
    file = -1

    getline
    command = "\036" $0
    command_length = length(command)
}

{
    if (index($1, known) == 1 || learn()) {
        rest = substr($1, known_length + 1)
        if (rest ~ GET) {
            if (NF != 7 || $5 != " " || index($4, " ") == 1 || index($6, " ") == 1 || $7 ~ NOT_FAST_TAIL) {
                if (unusual()) next
            } else if ($3 ~ FAST_SUCCESS) {
                extracted++
                print day, rest, $3
                next
            } else if ($3 ~ FAST_OTHER) {
                skipped_status++
                next
            }
        } else if (rest ~ OTHER && length($0) <= LONGEST) {
            skipped_operation++
            next
        } else if (unusual()) next
    }
    if (substr($0, 1, command_length) == command)
        obey(substr($0, command_length + 2))
    else
        strict()
}

function obey(what) {
    if (what == "-") {
        base++                   # the command is no record of the file it stands in
        print report "\036."
        fflush()
        report = ""
        return
    }
    if (file >= 0)
        report = report "\036C " file " " NR - base - 1 " " extracted " " skipped_blank " " skipped_operation " " skipped_status \
            (reported ? " " rejected["too_long"] + 0 " " rejected["head"] + 0 " " rejected["time"] + 0 " " rejected["ip"] + 0 \
                " " rejected["key"] + 0 " " rejected["request"] + 0 " " rejected["ambiguous"] + 0 " " rejected["tail"] + 0 \
                : " 0 0 0 0 0 0 0 0") "\n"
    file = what
    base = NR
    extracted = skipped_blank = skipped_operation = skipped_status = 0
    if (reported) delete rejected
    reported = 0
}

# Takes owner, bucket and date of this record as the known start of the next ones. The date is checked here,
# once for each start; 0 if it is no date.
function learn(    bracket, start, date) {
    bracket = index($1, " [")
    start = substr($1, 1, bracket + 1)
    date = substr($1, bracket + 2, 12)
    if (!bracket || start !~ PREFIX || !calendar(date)) return 0
    known = start date
    known_length = length(known)
    day = calendar(date) "T"
    return 1
}

# "DD/Mon/YYYY:" as YYYY-MM-DD, or "" where the calendar has no such day.
function calendar(date,    y, m, d) {
    if (date in iso) return iso[date]
    if (date ~ /^[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9][0-9][0-9][0-9]:$/) {
        d = substr(date, 1, 2) + 0
        m = (substr(date, 4, 3) in month) ? month[substr(date, 4, 3)] : 0
        y = substr(date, 8, 4) + 0
        if (m && y >= 1970 && d >= 1 && d <= days[m] && (m != 2 || d < 29 || (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0))))
        {
            if (length(iso) > 10000) delete iso
            return iso[date] = sprintf("%04d-%02d-%02d", y, m, d)
        }
    }
    return ""
}

# Brings the two forms of an empty requester, `IP  ID` and `IP  REQUESTER ID`, to the ordinary one.
function single(    gap, id) {
    if (rest !~ DOUBLED) return 0
    gap = index(rest, "  ")
    id = substr(rest, gap + 1)
    rest = substr(rest, 1, gap) (id ~ EMPTY_REQUESTER ? "-" id : substr(id, 2))
    return rest ~ GET            # with an operation in the place of the request ID it is another record
}

# Honest records that are not quite ordinary: an empty requester, raw quotes in the request-URI, no request-URI. 0 if it
# is none of these, or not good at a glance.
function unusual(    numbers_at) {
    if (rest !~ GET) {
        if (index(rest, "  ")) {
            if (!single()) return 0
        } else {
            if (NF != 5 || rest !~ BARE_SUCCESS || $3 != " " || index($2, " ") == 1 || index($4, " ") == 1 || $5 ~ NOT_FAST_TAIL)
                return 0
            extracted++
            print day, rest
            return 1
        }
    }
    if (NF < 7 || !one_place()) return 0
    numbers_at = NF - 4
    if ($numbers_at ~ FAST_SUCCESS) {
        extracted++
        print day, rest, $numbers_at
    } else if ($numbers_at ~ FAST_OTHER) skipped_status++
    else return 0
    return 1
}

# Whether a record with raw quotes in its request-URI can be read in one way only, with the numbers in $(NF - 4): numbers
# begin with a blank, and where they may stand no other text does.
function one_place(    i) {
    if ($(NF - 2) != " " || index($(NF - 3), " ") == 1 || index($(NF - 1), " ") == 1 || $NF ~ NOT_FAST_TAIL) return 0
    for (i = NF - 5; i > 2; i--)
        if (index($i, " ") == 1) return 0
    return 1
}

function reject(reason) {
    rejected[reason]++
    if (reported++ < REPORTED) report = report "\036R " file " " NR - base " " reason "\n"
}

# Any record, judged rule by rule.
function strict(    s, i, ip, id, operation_name, key, time, date) {
    s = $0
    if (s ~ /^[ \t]*\r?$/) { skipped_blank++; return }
    if (length(s) > LONGEST) { reject("too_long"); return }
    if (substr(s, length(s)) == "\r") s = substr(s, 1, length(s) - 1)
    if (s !~ HEAD) { reject("head"); return }

    s = substr(s, index(s, " ") + 1)                        # past the owner
    s = substr(s, index(s, " ") + 2)                        # past the bucket and "["
    i = index(s, "]")
    time = substr(s, 1, i - 1)
    s = substr(s, i + 2)
    date = calendar(substr(time, 1, 12))
    if (date == "" || substr(time, 13, 8) !~ CLOCK || substr(time, 21) != " +0000") { reject("time"); return }
    i = index(s, " ")
    ip = substr(s, 1, i - 1)
    s = substr(s, i + 1)
    if (ip !~ ADDRESS) { reject("ip"); return }
    if (s ~ EMPTY_REQUESTER) s = "-" s
    else if (s ~ /^ /) s = substr(s, 2)
    s = substr(s, index(s, " ") + 1)                        # past the requester
    i = index(s, " ")
    id = substr(s, 1, i - 1)
    s = substr(s, i + 1)

    i = index(s " ", " ")
    operation_name = substr(s, 1, i - 1)
    s = substr(s, i + 1)
    if (operation_name != "REST.GET.OBJECT") { skipped_operation++; return }
    i = index(s " ", " ")
    key = substr(s, 1, i - 1)
    s = substr(s, i + 1)
    if (key !~ KEY) { reject("key"); return }

    judge(s)
    if (verdict == "extracted") {
        extracted++
        print date "T", substr(time, 13, 8), " +0000] ", ip, " - ", id, " REST.GET.OBJECT ", key, " ", numbers_found, " "
    } else if (verdict == "status") skipped_status++
    else reject(verdict)
}

# Reads what follows the key: URI, numbers, referer, user agent, tail. Sets `verdict`, and `numbers_found` where
# it is "extracted". The URI, the referer and the user agent are the client's and may hold anything, so every
# quote that a numbers block follows may be the URI's end. Two passes over the quotes: the first finds what the
# second needs to tell whether the rest of the record fits, the last quote and the last `" "` before it.
# Windows bound the memory, and time is linear in the record's length.
function judge(s,    bare, size, pass, from, window, n, i, at, part, text, block, left, quotes, last, tail, tail_ok,
               bare_ok, gap, gap_before, places, fits, place_success, fit_success, fit, success) {
    verdict = "request"
    if (s ~ /^- /) {                                        # not in quotes: as `""`, with no second place
        bare = 1
        s = "\"\"" substr(s, 2)
    } else if (s !~ /^"/) return
    size = length(s)
    for (pass = 1; pass <= 2; pass++) {
        quotes = 0
        for (from = 1; from <= size; from += WINDOW) {
            if (pass == 1 || size > WINDOW) {
                window = substr(s, from, WINDOW + MARGIN)
                n = split(window, part, "\"")
            }
            at = from
            for (i = 1; i < n; i++) {
                at += length(part[i]) + 1                   # just past a quote
                if (at > from + WINDOW) break               # the next window's
                quotes++
                text = part[i + 1]
                if (pass == 1) {
                    if (text == " " && i + 1 < n) { gap_before = gap; gap = quotes }
                    tail = at
                    continue
                }
                if (quotes < 2 || (bare && quotes > 2) || text !~ BLOCK) continue
                if (text ~ WHOLE_BLOCK) block = length(text) - 1    # match() takes many times as long
                else { match(text, BLOCK); block = RLENGTH }
                left = substr(text, block + 1)
                if (left == "" ? at + block <= size : left !~ /^ /) continue
                places++
                success = text ~ /^ 2/
                place_success += success
                if (quotes == last) fit = substr(s, at + block) ~ BARE_BOTH_TAIL
                else if (left == " ") fit = (tail_ok && gap >= quotes + 2) || (bare_ok && last >= quotes + 2)
                else fit = left == " - " && tail_ok && last >= quotes + 2
                fits += fit
                fit_success += fit && success
                if (fit || !fits) numbers_found = substr(text, 1, block)
            }
        }
        if (pass == 1) {
            last = quotes
            if (gap > last - 2) gap = gap_before
            tail = substr(s, tail)
            tail_ok = tail ~ TAIL
            bare_ok = tail ~ BARE_AGENT_TAIL
        }
    }
    if (!places) return
    success = fits ? fit_success : place_success
    if ((fits ? fits : places) > 1 && success) verdict = "ambiguous"
    else if (!success) verdict = "status"
    else verdict = fits ? "extracted" : "tail"
}
