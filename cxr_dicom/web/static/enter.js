// The token stands behind the # of the link, which no browser sends or writes into a log; it goes in a form at once.
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.getElementById("enter").submit();
}
